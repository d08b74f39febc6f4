// SPDX-License-Identifier: Apache-2.0

package restore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	eventfake "github.com/cryopod/cryopod/pkg/checkpoint/event/fake"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/checkpoint/restore"
)

var podKey = client.ObjectKey{Namespace: "shop", Name: "cart-new"}

func clientWith(t *testing.T, calls interceptor.Funcs, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.PodCheckpoint{}).
		WithIndex(&corev1.Pod{}, index.PodRestoreFrom, index.ByRestoreFrom).
		WithInterceptorFuncs(calls).Build()
}

func reconciler(c, live client.Client, events *eventfake.Recorder) *restore.Reconciler {
	return &restore.Reconciler{Client: c, Live: live, Events: events, Clock: clocktesting.NewFakePassiveClock(start.Add(2500 * time.Millisecond))}
}

// state is what the API server has after a run.
type state struct {
	Images    []string
	Phase     v1alpha1.Phase
	Claim     v1alpha1.Claim
	Condition string
	Events    []string
}

func stateOf(t *testing.T, c client.Client, events *eventfake.Recorder) state {
	t.Helper()
	pod, pc := &corev1.Pod{}, &v1alpha1.PodCheckpoint{}
	if err := c.Get(context.Background(), podKey, pod); err != nil {
		t.Fatal(err)
	}
	s := state{
		Images: []string{pod.Spec.InitContainers[0].Image, pod.Spec.Containers[0].Image, pod.Spec.Containers[1].Image},
		Events: events.Lines(),
	}
	if err := c.Get(context.Background(), client.ObjectKey{Namespace: "shop", Name: "cart-1"}, pc); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	s.Phase = pc.Status.Phase
	if pc.Status.Claim != nil {
		s.Claim = *pc.Status.Claim
		s.Claim.Time.Reset()
	}
	if cond := meta.FindStatusCondition(pc.Status.Conditions, v1alpha1.ConditionRestored); cond != nil {
		s.Condition = string(cond.Status)
	}
	return s
}

var (
	checkpointImages = []string{"registry/shop:cart-1.proxy", "registry/shop:cart-1.app", "extra:1"}
	baseImages       = []string{"proxy:1", "app:1", "extra:1"}
	bound            = v1alpha1.Claim{ID: "c1", PodName: "cart-new", PodUID: "new", NodeName: "node-2"}
	unbound          = v1alpha1.Claim{ID: "c1"}
)

// threeOf is one event on the pod, the PodCheckpoint and the owner.
func threeOf(kind, reason, message string) []string {
	var out []string
	for _, on := range []string{"cart-new", "cart-1", "cart"} {
		out = append(out, kind+" "+reason+" on "+on+": "+message)
	}
	return out
}

func TestReconcile(t *testing.T) {
	failed := with(waiting("RunContainerError", "OCI runtime restore failed: criu failed: type NOTIFY errno 0: unknown"), creating)
	fellBack := threeOf("Warning", "RestoreFailed", `Restore from PodCheckpoint "cart-1" failed (container "app": criu failed: type NOTIFY errno 0`+mute+`); `+
		`starting cold from the base images`)
	for name, tc := range map[string]struct {
		pod    *corev1.Pod
		pc     *v1alpha1.PodCheckpoint
		livePC *v1alpha1.PodCheckpoint // what the cache does not know yet
		want   state
	}{
		"under way": {
			pod: replacement(with(creating, creating)), pc: claimed(),
			want: state{Images: checkpointImages, Phase: v1alpha1.PhaseClaimed, Claim: unbound},
		},
		"restored": {
			pod: replacement(with(running(0), running(0))), pc: claimed(),
			want: state{
				Images: checkpointImages, Phase: v1alpha1.PhaseRestored, Claim: bound, Condition: "True",
				Events: threeOf("Normal", "Restored",
					`Restored from PodCheckpoint "cart-1" on node "node-2", 2.5 s after the claim; it carries on where pod "cart-old" stopped`),
			},
		},
		"restored from a checkpoint on a schedule": {
			pod: replacement(with(running(0), running(0))), pc: claimed(lost),
			want: state{
				Images: checkpointImages, Phase: v1alpha1.PhaseRestored, Claim: bound, Condition: "True",
				Events: threeOf("Normal", "Restored", `Restored from PodCheckpoint "cart-1" on node "node-2", 2.5 s after the claim; `+
					`it carries on from a state of pod "cart-old" that was 4m12s old when it was claimed: what happened since is lost`),
			},
		},
		"failed: the pod falls back, the PodCheckpoint fails": {
			pod: replacement(failed), pc: claimed(),
			want: state{Images: baseImages, Phase: v1alpha1.PhaseFailed, Claim: bound, Condition: "False", Events: fellBack},
		},
		"died between the two writes": {
			pod: restore.Cold(replacement(failed), []string{"app", "proxy"}, `container "app": criu failed: type NOTIFY errno 0`+mute), pc: claimed(),
			want: state{Images: baseImages, Phase: v1alpha1.PhaseFailed, Claim: bound, Condition: "False", Events: fellBack},
		},
		"crashed after the restore": {
			pod: replacement(with(ended(139, "Error", ""), running(0))), pc: claimed(phase(v1alpha1.PhaseRestored)),
			want: state{
				Images: []string{"registry/shop:cart-1.proxy", "app:1", "extra:1"}, Phase: v1alpha1.PhaseRestored, Claim: unbound,
				Events: threeOf("Warning", "RestoreFailed", `Not running from the checkpoint any more `+
					`(container "app": it ended with exit code 139 (Error) after its restore); starting cold from the base image`),
			},
		},
		"the cache does not know the claim yet": {
			pod: replacement(with(creating, creating)), livePC: claimed(),
			pc:   claimed(phase(v1alpha1.PhaseReady), func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim = nil }),
			want: state{Images: checkpointImages, Phase: v1alpha1.PhaseReady},
		},
		"no node can restore it": {
			pod: replacement(unplaced("no node can restore it: 2 old CPUs")), pc: claimed(),
			want: state{
				Images: baseImages, Phase: v1alpha1.PhaseFailed, Claim: v1alpha1.Claim{ID: "c1", PodName: "cart-new", PodUID: "new"}, Condition: "False",
				Events: threeOf("Warning", "RestoreFailed",
					`Restore from PodCheckpoint "cart-1" failed (no node can restore it: 2 old CPUs); starting cold from the base images`),
			},
		},
		"the claim is another's": {
			pod: replacement(with(running(0), running(0))), pc: claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim.ID = "c2" }),
			want: state{
				Images: baseImages, Phase: v1alpha1.PhaseClaimed, Claim: v1alpha1.Claim{ID: "c2"},
				Events: slices.DeleteFunc(threeOf("Warning", "RestoreFailed", `Not running from the checkpoint any more `+
					`(PodCheckpoint "cart-1" is not claimed by this pod); starting cold from the base image`),
					func(line string) bool { return strings.Contains(line, " on cart-1: ") }), // not the pod's
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, events := clientWith(t, interceptor.Funcs{}, tc.pod, tc.pc), &eventfake.Recorder{}
			live := c
			if tc.livePC != nil {
				live = clientWith(t, interceptor.Funcs{}, tc.livePC)
			}
			if _, err := reconciler(c, live, events).Reconcile(context.Background(), reconcile.Request{NamespacedName: podKey}); err != nil {
				t.Fatalf("Reconcile: %v", err)
			}
			once := stateOf(t, c, events)
			if diff := cmp.Diff(tc.want, once); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			if _, err := reconciler(c, live, events).Reconcile(context.Background(), reconcile.Request{NamespacedName: podKey}); err != nil {
				t.Fatalf("Reconcile again: %v", err)
			}
			if diff := cmp.Diff(once, stateOf(t, c, events)); diff != "" {
				t.Errorf("a second run changed something:\n%s", diff)
			}
		})
	}
}

// TestPodChangedMeanwhile shows that a pod whose failure is out of date is not patched.
func TestPodChangedMeanwhile(t *testing.T) {
	ctx, events := context.Background(), &eventfake.Recorder{}
	c := clientWith(t, interceptor.Funcs{}, replacement(with(waiting("ErrImagePull", "not found"), creating)), claimed())
	old := &corev1.Pod{}
	if err := c.Get(ctx, podKey, old); err != nil {
		t.Fatal(err)
	}
	newer := old.DeepCopy()
	with(running(0), running(0))(newer)
	if err := c.Update(ctx, newer); err != nil {
		t.Fatal(err)
	}
	if _, err := reconciler(behind{c, old}, c, events).Reconcile(ctx, reconcile.Request{NamespacedName: podKey}); err != nil {
		t.Errorf("Reconcile: %v, want no error for a conflict", err)
	}
	want := state{Images: checkpointImages, Phase: v1alpha1.PhaseClaimed, Claim: unbound}
	if diff := cmp.Diff(want, stateOf(t, c, events)); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

// TestSecondWriteFails shows that the next run makes up for a PodCheckpoint that could not be written.
func TestSecondWriteFails(t *testing.T) {
	ctx, events := context.Background(), &eventfake.Recorder{}
	down := true
	c := clientWith(t, interceptor.Funcs{SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, obj client.Object, opts ...client.SubResourceUpdateOption) error {
		if down {
			return errors.New("no connection")
		}
		return c.SubResource(sub).Update(ctx, obj, opts...)
	}}, replacement(with(waiting("ErrImagePull", "not found"), creating)), claimed())
	r := reconciler(c, c, events)
	if _, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: podKey}); err == nil {
		t.Error("Reconcile reported no error")
	}
	if diff := cmp.Diff(state{Images: baseImages, Phase: v1alpha1.PhaseClaimed, Claim: unbound}, stateOf(t, c, events)); diff != "" {
		t.Errorf("state after the first run (-want +got):\n%s", diff)
	}
	down = false
	if _, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: podKey}); err != nil {
		t.Fatalf("Reconcile: %v", err)
	}
	got := stateOf(t, c, events)
	if got.Phase != v1alpha1.PhaseFailed || len(got.Events) != 3 {
		t.Errorf("phase %s with %d events, want Failed with 3", got.Phase, len(got.Events))
	}
}

// behind is a client whose cache has an old version of the pod.
type behind struct {
	client.Client
	stale *corev1.Pod
}

func (b behind) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if pod, ok := obj.(*corev1.Pod); ok {
		b.stale.DeepCopyInto(pod)
		return nil
	}
	return b.Client.Get(ctx, key, obj, opts...)
}

// lost makes the checkpoint one of a pod that ran on after it, and was lost with its node.
func lost(pc *v1alpha1.PodCheckpoint) {
	pc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionSourceLost, Status: metav1.ConditionTrue, Reason: "Test"}}
	pc.Status.Timings = []v1alpha1.PhaseTiming{{Phase: v1alpha1.PhaseFreezing, Time: metav1.NewMicroTime(start.Add(-252 * time.Second))}}
}
