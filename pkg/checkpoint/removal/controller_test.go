// SPDX-License-Identifier: Apache-2.0

package removal_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
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
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/checkpoint/removal"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/termination"
)

const spot = "aws-node-termination-handler/spot-itn"

func node(changes ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	for _, c := range changes {
		c(n)
	}
	return n
}

func tainted(key string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect}) }
}

// api is an API server that writes down how pods are ended, and refuses it with the error.
func api(t *testing.T, calls *[]string, refuse error, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, policyv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	note := func(verb string, grace *int64, p *metav1.Preconditions) {
		text := "own grace"
		if grace != nil {
			text = fmt.Sprintf("grace %d", *grace)
		}
		*calls = append(*calls, fmt.Sprintf("%s, %s, UID %s", verb, text, *p.UID))
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&corev1.Pod{}, &v1alpha1.PodCheckpoint{}).
		WithIndex(&v1alpha1.PodCheckpoint{}, index.CheckpointPodUID, index.ByPodUID).
		WithInterceptorFuncs(interceptor.Funcs{
			Delete: func(_ context.Context, _ client.WithWatch, _ client.Object, opts ...client.DeleteOption) error {
				o := client.DeleteOptions{}
				o.ApplyOptions(opts)
				note("delete", o.GracePeriodSeconds, o.Preconditions)
				return refuse
			},
			SubResourceCreate: func(_ context.Context, _ client.Client, _ string, _ client.Object, sub client.Object, _ ...client.SubResourceCreateOption) error {
				ev := sub.(*policyv1.Eviction)
				note("evict", ev.DeleteOptions.GracePeriodSeconds, ev.DeleteOptions.Preconditions)
				return refuse
			},
		}).Build()
}

func TestReconcile(t *testing.T) {
	type outcome struct {
		Calls     []string
		Disrupted string
		After     time.Duration
		Events    []string
	}
	const (
		savedWords = `Pod "cart" is saved by PodCheckpoint "cart-1"; deleting it, its replacement goes on from there`
		coldWords  = `No checkpoint of pod "cart": needs 41 s, 12 s are left; deleting it, the replacement starts cold`
	)
	told := func(kind, reason, words string) []string {
		return []string{
			kind + " " + reason + " on cart: " + words, kind + " " + reason + " on cart-1: " + words, kind + " " + reason + " on carts: " + words,
		}
	}
	evict := func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Removal = v1alpha1.RemovalEvict }
	eviction := func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Reason = v1alpha1.ReasonDeletion }
	none := func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Removal = v1alpha1.RemovalNone }
	deleted := func(pc *v1alpha1.PodCheckpoint) {
		pc.Status.Conditions = append(pc.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionRemovalAsked, Status: metav1.ConditionTrue, Reason: "Deleted"})
	}
	late := saying("needs 41 s, 12 s are left")
	ends := node(tainted(spot, corev1.TaintEffectNoSchedule))
	refused := apierrors.NewTooManyRequests("the budget says no", 0)
	removed := outcome{
		Calls: []string{"delete, grace 1, UID uid"}, Disrupted: "DeletionByCryopod", Events: told("Normal", "SavedAndRemoved", savedWords),
	}
	for name, tc := range map[string]struct {
		pc     *v1alpha1.PodCheckpoint
		pod    *corev1.Pod
		around []client.Object
		refuse error
		age    time.Duration
		want   outcome
	}{
		"saved": {pc: checkpoint(v1alpha1.PhaseReady), pod: source(), around: []client.Object{ends}, want: removed},
		"no time": {
			pc: checkpoint(v1alpha1.PhaseFailed, late), pod: source(), around: []client.Object{ends},
			want: outcome{Calls: []string{"delete, own grace, UID uid"}, Disrupted: "DeletionByCryopod", Events: told("Warning", "EvictedCold", coldWords)},
		},
		"somebody marked the pod before": {
			pc: checkpoint(v1alpha1.PhaseReady), around: []client.Object{ends}, pod: source(func(p *corev1.Pod) {
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager"}}
			}),
			want: outcome{Calls: removed.Calls, Disrupted: "DeletionByTaintManager", Events: removed.Events},
		},
		"a notice of the agent": {
			pc: checkpoint(v1alpha1.PhaseReady), pod: source(), want: removed, around: []client.Object{node(), &v1alpha1.NodeProfile{
				ObjectMeta: metav1.ObjectMeta{Name: "node-1"}, Status: v1alpha1.NodeProfileStatus{Notice: &v1alpha1.NodeNotice{Cause: v1alpha1.NoticeShutdown}},
			}},
		},
		"the taint manager's doing":  {pc: checkpoint(v1alpha1.PhaseReady), pod: source(), around: []client.Object{node(tainted("x", corev1.TaintEffectNoExecute))}, want: removed},
		"the node has gone":          {pc: checkpoint(v1alpha1.PhaseReady), pod: source(), want: removed},
		"called off":                 {pc: checkpoint(v1alpha1.PhaseReady), pod: source(), around: []client.Object{node(tainted("x", corev1.TaintEffectNoSchedule))}},
		"not about the node":         {pc: checkpoint(v1alpha1.PhaseReady, eviction), pod: source(), around: []client.Object{node()}, want: removed},
		"nobody asked for a removal": {pc: checkpoint(v1alpha1.PhaseReady, func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Removal = v1alpha1.RemovalNone }), pod: source()},
		"somebody deleted it meanwhile": {
			pc: checkpoint(v1alpha1.PhaseReady, eviction, none, deleted), pod: source(), around: []client.Object{node()}, want: removed,
		},
		"called off, but somebody deleted it": {pc: checkpoint(v1alpha1.PhaseReady, none, deleted), pod: source(), around: []client.Object{node()}, want: removed},
		"nobody ended it": {
			pc: checkpoint(v1alpha1.PhaseReleased, eviction), pod: source(), age: 2 * time.Minute, want: outcome{
				Calls: []string{"delete, own grace, UID uid"}, Disrupted: "DeletionByCryopod", Events: told("Warning", "EvictedCold",
					`No checkpoint of pod "cart": nobody ended the pod in time after its checkpoint, and the deadline is over; deleting it, the replacement starts cold`),
			},
		},
		"nobody ended it, and it is saved again": {
			pc: checkpoint(v1alpha1.PhaseReleased, eviction), pod: source(), age: 2 * time.Minute,
			around: []client.Object{checkpoint(v1alpha1.PhaseDumping, func(pc *v1alpha1.PodCheckpoint) { pc.Name = "cart-2" })},
		},
		"evicted": {
			pc: checkpoint(v1alpha1.PhaseReady, evict), pod: source(), around: []client.Object{ends},
			want: outcome{Calls: []string{"evict, grace 1, UID uid"}, Events: told("Normal", "SavedAndRemoved",
				`Pod "cart" is saved by PodCheckpoint "cart-1"; evicting it, its replacement goes on from there`)},
		},
		"a budget refuses, frozen": {
			pc: checkpoint(v1alpha1.PhaseReady, evict), pod: source(), around: []client.Object{ends}, refuse: refused,
			want: outcome{Calls: []string{"evict, grace 1, UID uid"}, After: time.Second},
		},
		"a budget refuses, cold": {
			pc: checkpoint(v1alpha1.PhaseFailed, late, evict), pod: source(), around: []client.Object{ends}, refuse: refused,
			want: outcome{Calls: []string{"evict, own grace, UID uid"}, After: 5 * time.Second},
		},
		"a budget refuses, to the end": {
			pc: checkpoint(v1alpha1.PhaseFailed, late, evict), pod: source(), around: []client.Object{ends}, refuse: refused, age: 2 * time.Minute,
			want: outcome{Calls: []string{"evict, own grace, UID uid"}, Events: told("Warning", "NotEvicted",
				`Pod "cart" could not be evicted by 2026-01-02T03:06:05Z (the budget says no); it stays until somebody else ends it`)},
		},
		"it went meanwhile": {
			pc: checkpoint(v1alpha1.PhaseReady, evict), pod: source(), around: []client.Object{ends},
			refuse: apierrors.NewConflict(policyv1.Resource("eviction"), "cart", nil), want: outcome{Calls: []string{"evict, grace 1, UID uid"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var calls []string
			c, events := api(t, &calls, tc.refuse, append(tc.around, tc.pc, tc.pod)...), &eventfake.Recorder{}
			clk := clocktesting.NewFakePassiveClock(start.Add(max(tc.age, 11*time.Second)))
			r := &removal.Reconciler{
				Remover: removal.Remover{Client: c, Live: c, Events: events, Clock: clk}, Taints: termination.Defaults(),
			}
			defer func() {
				pc := &v1alpha1.PodCheckpoint{}
				if err := c.Get(t.Context(), client.ObjectKeyFromObject(tc.pc), pc); err != nil {
					t.Fatal(err)
				}
				if off := match.CalledOff(pc) != ""; off != (name == "called off") {
					t.Errorf("called off: %t", off)
				}
			}()
			result, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(tc.pc)})
			if err != nil {
				t.Fatal(err)
			}
			got := outcome{Calls: calls, After: result.RequeueAfter, Events: events.Lines()}
			pod := &corev1.Pod{}
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(tc.pod), pod); err != nil {
				t.Fatal(err)
			}
			for _, cond := range pod.Status.Conditions {
				got.Disrupted = cond.Reason
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRemoveAsksTheServer has a cache that is behind: the pod is on its way already, or another one has its name.
func TestRemoveAsksTheServer(t *testing.T) {
	for name, live := range map[string]*corev1.Pod{
		"terminating": source(func(p *corev1.Pod) {
			p.DeletionTimestamp, p.Finalizers = ptr.To(metav1.NewTime(start)), []string{"test/stays"}
		}),
		"another pod": source(func(p *corev1.Pod) { p.UID = "other" }),
		"gone":        nil,
	} {
		t.Run(name, func(t *testing.T) {
			var calls []string
			objects := []client.Object{}
			if live != nil {
				objects = append(objects, live)
			}
			events := &eventfake.Recorder{}
			r := removal.Remover{
				Client: api(t, &calls, nil, source()), Live: api(t, &calls, nil, objects...), Events: events, Clock: clocktesting.NewFakePassiveClock(start),
			}
			o := removal.Order{Pod: source(), Checkpoint: checkpoint(v1alpha1.PhaseReady), Reason: v1alpha1.ReasonTermination, How: v1alpha1.RemovalDelete}
			if refused, err := r.Remove(t.Context(), o); refused != "" || err != nil || len(calls)+len(events.Lines()) > 0 {
				t.Errorf("refused %q, error %v, calls %q, events %q", refused, err, calls, events.Lines())
			}
		})
	}
}
