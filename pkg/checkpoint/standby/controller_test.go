// SPDX-License-Identifier: Apache-2.0

package standby_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	eventfake "github.com/cryopod/cryopod/pkg/checkpoint/event/fake"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/checkpoint/standby"
	"github.com/cryopod/cryopod/pkg/match"
)

// world is the controller with a cache and an API server that differ where a test has them differ.
type world struct {
	t            *testing.T
	cached, live client.Client
	clock        *clocktesting.FakePassiveClock
	events       *eventfake.Recorder
	r            *standby.Reconciler
}

func clientWith(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.PodCheckpoint{}).
		WithIndex(&v1alpha1.PodCheckpoint{}, index.CheckpointPodUID, index.ByPodUID).Build()
}

// newWorld has the checkpoints and pods in the cache; the API server has the others.
func newWorld(t *testing.T, cached, live []client.Object) *world {
	t.Helper()
	w := &world{t: t, clock: clocktesting.NewFakePassiveClock(start.Add(time.Hour)), events: &eventfake.Recorder{}}
	w.cached, w.live = clientWith(t, cached...), clientWith(t, live...)
	w.r = &standby.Reconciler{Client: w.cached, Live: w.live, Events: w.events, Clock: w.clock}
	return w
}

func (w *world) reconcile(pc *v1alpha1.PodCheckpoint) reconcile.Result {
	w.t.Helper()
	result, err := w.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pc)})
	if err != nil {
		w.t.Fatalf("Reconcile: %v", err)
	}
	return result
}

// get is the checkpoint now: its phase, and whether its source is known to be lost.
func (w *world) get(pc *v1alpha1.PodCheckpoint) (v1alpha1.Phase, bool) {
	w.t.Helper()
	got := &v1alpha1.PodCheckpoint{}
	if err := w.cached.Get(context.Background(), client.ObjectKeyFromObject(pc), got); err != nil {
		w.t.Fatal(err)
	}
	return got.Status.Phase, match.SourceLost(got)
}

func TestReconcile(t *testing.T) {
	pc := made(source(), 1)
	for name, tc := range map[string]struct {
		cached, live []client.Object
		saw          *corev1.Pod // the last state of a pod that went, as the watch told
		unknown      bool
		phase        v1alpha1.Phase
		lost         bool
	}{
		"the pod runs":                         {cached: []client.Object{source()}, phase: v1alpha1.PhaseReady},
		"the pod runs, the cache lacks it":     {live: []client.Object{source()}, phase: v1alpha1.PhaseReady},
		"evicted":                              {saw: source(deleted), live: []client.Object{healthy()}, phase: v1alpha1.PhaseExpired},
		"evicted, the node went afterwards":    {saw: source(deleted), phase: v1alpha1.PhaseExpired},
		"collected":                            {saw: source(collected), phase: v1alpha1.PhaseReady, lost: true},
		"removed from a node off":              {saw: source(deleted), live: []client.Object{off()}, phase: v1alpha1.PhaseReady, lost: true},
		"collected while nobody led":           {phase: v1alpha1.PhaseExpired},
		"removed while nobody led, node off":   {live: []client.Object{off()}, phase: v1alpha1.PhaseExpired},
		"collected while the watch was down":   {saw: source(collected), unknown: true, phase: v1alpha1.PhaseExpired},
		"collected, a fenced one is ready now": {saw: source(collected), live: []client.Object{made(source(), 2, fenced)}, phase: v1alpha1.PhaseExpired},
		"collected, a fenced one is claimed":   {saw: source(collected), live: []client.Object{made(source(), 2, fenced, claimed)}, phase: v1alpha1.PhaseExpired},
		"collected, as another pod was": {
			saw: source(collected), live: []client.Object{made(source(another), 1, sourceLost(metav1.ConditionTrue))}, phase: v1alpha1.PhaseReady, lost: true,
		},
		"collected, another pod's is claimed": {
			saw: source(collected), live: []client.Object{made(source(another), 1, claimed)}, phase: v1alpha1.PhaseReady, lost: true,
		},
		"collected, replaced by a cold one": {saw: source(collected), cached: []client.Object{cold()}, phase: v1alpha1.PhaseExpired},
		"collected, replaced by a cold one, of two that went": {
			saw: source(collected), cached: []client.Object{cold()}, live: []client.Object{replicas(2)}, phase: v1alpha1.PhaseReady, lost: true,
		},
		"collected, replaced by a cold one, and all are there": {
			saw: source(collected), cached: []client.Object{cold()}, live: []client.Object{replicas(1)}, phase: v1alpha1.PhaseExpired,
		},
		"collected, another pod has its name":   {saw: source(collected), cached: []client.Object{source(anew, old)}, phase: v1alpha1.PhaseReady, lost: true},
		"the name is another pod's, unseen":     {cached: []client.Object{source(anew)}, live: []client.Object{source(anew)}, phase: v1alpha1.PhaseExpired},
		"terminating on a silent node":          {cached: []client.Object{source(deleted, kept)}, live: []client.Object{silent()}, phase: v1alpha1.PhaseExpired},
		"terminating on a node off":             {cached: []client.Object{source(deleted, kept)}, live: []client.Object{off()}, phase: v1alpha1.PhaseReady, lost: true},
		"being collected":                       {cached: []client.Object{source(collected)}, phase: v1alpha1.PhaseReady, lost: true},
		"failed, its node is there and healthy": {cached: []client.Object{source(ended(corev1.PodFailed))}, live: []client.Object{healthy()}, phase: v1alpha1.PhaseExpired},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, append(tc.cached, pc.DeepCopy()), append(tc.live, pc.DeepCopy()))
			if tc.saw != nil {
				w.r.Saw(context.Background(), tc.saw, tc.unknown)
			}
			if after := w.reconcile(pc).RequeueAfter; after > 0 {
				if phase, _ := w.get(pc); phase != v1alpha1.PhaseReady {
					t.Errorf("it is %s while the word of its pod's end may be on its way", phase)
				}
				w.clock.SetTime(w.clock.Now().Add(after))
				w.reconcile(pc)
			}
			if phase, lost := w.get(pc); phase != tc.phase || lost != tc.lost {
				t.Errorf("it is %s, its source lost: %t; want %s, %t", phase, lost, tc.phase, tc.lost)
			}
		})
	}
}

// another makes the pod another one of its ReplicaSet.
func another(p *corev1.Pod) { p.Name, p.UID = "cart-c", "c" }

func cold() *corev1.Pod { p := peer(time.Hour); return &p }

// replicas is the pods' ReplicaSet.
func replicas(n int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "o1"}, Spec: appsv1.ReplicaSetSpec{Replicas: &n}}
}

// kept keeps a terminating pod in the fake API server.
func kept(p *corev1.Pod) { p.Finalizers = []string{"test/keep"} }

// old makes the pod one that was there all along.
func old(p *corev1.Pod) { p.OwnerReferences[0].UID = "o2" }

// TestWordOnItsWay has the pod missing in the cache before its watch's handler has run.
func TestWordOnItsWay(t *testing.T) {
	pc := made(source(), 1)
	w := newWorld(t, []client.Object{pc.DeepCopy()}, []client.Object{pc.DeepCopy()})
	if after := w.reconcile(pc).RequeueAfter; after <= 0 {
		t.Fatal("it did not wait")
	}
	w.r.Saw(context.Background(), source(collected), false)
	w.reconcile(pc)
	if phase, lost := w.get(pc); phase != v1alpha1.PhaseReady || !lost {
		t.Errorf("it is %s, its source lost: %t; want Ready and lost", phase, lost)
	}
	const note = `Pod "cart-a" is lost: its node "n1" is gone, and Kubernetes collected the pod; its replacement starts from this checkpoint, ` +
		"which is 30m10s old: what happened since is lost"
	want := []string{"Warning SourceLost on " + pc.Name + ": " + note, "Warning SourceLost on cart: " + note}
	if diff := cmp.Diff(want, w.events.Lines()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestFencedAttemptIsEndedFirst has an attempt with a fence, whose agent went with the node, end before the older checkpoint is offered: from
// then on only one of them can ever be claimed.
func TestFencedAttemptIsEndedFirst(t *testing.T) {
	pc, attempt := made(source(), 1), made(source(), 2, fenced, to(v1alpha1.PhaseExporting))
	w := newWorld(t, []client.Object{pc.DeepCopy(), attempt.DeepCopy()}, nil)
	w.live = w.cached
	w.r.Live = w.cached
	w.r.Saw(context.Background(), source(collected), false)
	w.reconcile(pc)
	if phase, _ := w.get(attempt); phase != v1alpha1.PhaseFailed {
		t.Errorf("the attempt with a fence is %s, want Failed", phase)
	}
	if _, lost := w.get(pc); lost {
		t.Error("the older one was offered in the same breath")
	}
	w.reconcile(pc)
	if phase, lost := w.get(pc); phase != v1alpha1.PhaseReady || !lost {
		t.Errorf("the older one is %s, its source lost: %t; want Ready and lost", phase, lost)
	}
}

// TestConflict shows that a checkpoint that changed after it was read is left to the next run.
func TestConflict(t *testing.T) {
	ctx, pc := context.Background(), made(source(), 1)
	w := newWorld(t, []client.Object{pc}, nil)
	stale := &v1alpha1.PodCheckpoint{}
	if err := w.cached.Get(ctx, client.ObjectKeyFromObject(pc), stale); err != nil {
		t.Fatal(err)
	}
	other := stale.DeepCopy()
	claimed(other)
	if err := w.cached.Status().Update(ctx, other); err != nil {
		t.Fatal(err)
	}
	w.r.Client = behind{w.cached, stale}
	w.r.Saw(ctx, source(deleted), false)
	w.reconcile(pc)
	if phase, _ := w.get(pc); phase != v1alpha1.PhaseClaimed {
		t.Errorf("it is %s, want the other writer's Claimed", phase)
	}
	if lines := w.events.Lines(); len(lines) != 0 {
		t.Errorf("events %v, want none", lines)
	}
}

// behind is a client whose cache has an old version of one PodCheckpoint.
type behind struct {
	client.Client
	stale *v1alpha1.PodCheckpoint
}

func (b behind) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if pc, ok := obj.(*v1alpha1.PodCheckpoint); ok {
		b.stale.DeepCopyInto(pc)
		return nil
	}
	return b.Client.Get(ctx, key, obj, opts...)
}
