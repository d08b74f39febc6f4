// SPDX-License-Identifier: Apache-2.0

package stranded_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	eventfake "github.com/cryopod/cryopod/pkg/checkpoint/event/fake"
	"github.com/cryopod/cryopod/pkg/checkpoint/removal"
	"github.com/cryopod/cryopod/pkg/checkpoint/stranded"
)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// waiting is a pod that was made an hour ago, and that Cryopod's scheduler is to give a node.
func waiting(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "cart-x", UID: "cart", CreationTimestamp: metav1.NewTime(now.Add(-time.Hour)),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart", UID: "rs", Controller: ptr.To(true)}},
		},
		Spec: corev1.PodSpec{SchedulerName: v1alpha1.SchedulerName},
	}
	for _, c := range changes {
		c(p)
	}
	return p
}

func TestNext(t *testing.T) {
	again := stranded.Step{After: 10 * time.Second}
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	made := func(d time.Duration) *corev1.Pod {
		return waiting(func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(ago(d)) })
	}
	for name, c := range map[string]struct {
		pod   *corev1.Pod
		since time.Time
		want  stranded.Step
	}{
		"its scheduler is away":           {waiting(), ago(time.Minute), stranded.Step{Replace: true}},
		"just long enough":                {waiting(), ago(30 * time.Second), stranded.Step{Replace: true}},
		"away for a moment":               {waiting(), ago(20 * time.Second), again},
		"its scheduler runs":              {waiting(), time.Time{}, again},
		"made as it was seen":             {made(55 * time.Second), ago(time.Minute), stranded.Step{Replace: true}},
		"made for it although it is away": {made(40 * time.Second), ago(time.Minute), again},
		"it has a node":                   {waiting(func(p *corev1.Pod) { p.Spec.NodeName = "node-1" }), ago(time.Hour), stranded.Step{}},
		"another scheduler's":             {waiting(func(p *corev1.Pod) { p.Spec.SchedulerName = corev1.DefaultSchedulerName }), ago(time.Hour), stranded.Step{}},
		"it is on its way":                {waiting(func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }), ago(time.Hour), stranded.Step{}},
		"nobody would make another":       {waiting(func(p *corev1.Pod) { p.OwnerReferences = nil }), ago(time.Hour), stranded.Step{}},
		"it is not to be placed yet": {
			waiting(func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }), ago(time.Hour), stranded.Step{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, stranded.Next(c.pod, c.since, now)); diff != "" {
				t.Errorf("step (-want +got):\n%s", diff)
			}
		})
	}
}

// fixture is a controller, with an API server that knows one pod, and a scheduler that runs or not.
type fixture struct {
	client.Client
	clock  *clocktesting.FakePassiveClock
	events eventfake.Recorder
	runs   bool
	r      *stranded.Reconciler
}

func newFixture(t *testing.T, pod *corev1.Pod, funcs interceptor.Funcs) *fixture {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	f := &fixture{clock: clocktesting.NewFakePassiveClock(now)}
	f.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(pod).WithStatusSubresource(&corev1.Pod{}).WithInterceptorFuncs(funcs).Build()
	f.r = &stranded.Reconciler{
		Client: f, Clock: f.clock, Ready: func(context.Context) bool { return f.runs },
		Remover: removal.Remover{Client: f, Live: f, Events: &f.events, Clock: f.clock},
	}
	return f
}

// look reconciles the pod after so long, and tells whether it is still there.
func (f *fixture) look(t *testing.T, after time.Duration, runs bool) bool {
	t.Helper()
	f.clock.SetTime(f.clock.Now().Add(after))
	f.runs = runs
	key := client.ObjectKey{Namespace: "shop", Name: "cart-x"}
	if _, err := f.r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	err := f.Get(t.Context(), key, &corev1.Pod{})
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return !apierrors.IsNotFound(err)
}

func TestReplacesOnceTheSchedulerHasStayedAway(t *testing.T) {
	f := newFixture(t, waiting(), interceptor.Funcs{})
	for i, step := range []struct {
		after       time.Duration
		runs, stays bool
	}{
		{0, true, true},
		{time.Hour, false, true}, // seen to be away for the first time
		{20 * time.Second, false, true},
		{10 * time.Second, true, true}, // it was a change of leader
		{20 * time.Second, false, true},
		{29 * time.Second, false, true},
		{time.Second, false, false},
	} {
		if stays := f.look(t, step.after, step.runs); stays != step.stays {
			t.Fatalf("look %d: the pod is there: %v, want %v", i, stays, step.stays)
		}
	}
	if len(f.events.Lines()) == 0 {
		t.Error("no event")
	}
}

// TestLeavesWhatIsPlacedMeanwhile has the scheduler come back and place the pod in the midst of its replacement.
func TestLeavesWhatIsPlacedMeanwhile(t *testing.T) {
	place := func(ctx context.Context, c client.Client) error {
		var pod corev1.Pod
		if err := c.Get(ctx, client.ObjectKey{Namespace: "shop", Name: "cart-x"}, &pod); err != nil {
			return err
		}
		pod.Spec.NodeName = "node-1"
		return c.Update(ctx, &pod)
	}
	for name, funcs := range map[string]interceptor.Funcs{
		"before it is marked": {
			SubResourcePatch: func(
				ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption,
			) error {
				if err := place(ctx, c); err != nil {
					return err
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		},
		"before it is deleted": {
			Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
				if err := place(ctx, c); err != nil {
					return err
				}
				return c.Delete(ctx, o, opts...)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, waiting(), funcs)
			f.look(t, 0, false)
			if !f.look(t, time.Minute, false) {
				t.Error("the pod was deleted although it had a node")
			}
		})
	}
}
