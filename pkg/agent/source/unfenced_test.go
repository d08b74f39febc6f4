// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// onSchedule makes the checkpoint one that lets its pod run on.
func onSchedule(pc *v1alpha1.PodCheckpoint, _ *corev1.Pod) {
	pc.Spec.Reason, pc.Spec.Fence = v1alpha1.ReasonSchedule, false
}

// TestRunsOnWhilePushed looks at the pod during the export of a checkpoint without a fence, and lets that take longer than the pod
// may stand still.
func TestRunsOnWhilePushed(t *testing.T) {
	n := newNode(t, onSchedule)
	a := n.live(0)
	a.meanwhile = func() {
		if got := n.state(); got != "running" {
			t.Errorf("the pod is %s while it is pushed", got)
		}
		n.clock.Step(2 * time.Minute)
	}
	a.save()
	pc := n.checkpoint()
	if pc.Status.Phase != v1alpha1.PhaseReady || !strings.Contains(pc.Status.Message, "of which the pod stood still for 0s") {
		t.Errorf("%s: %q", pc.Status.Phase, pc.Status.Message)
	}
	if _, pushed := n.left(); len(pushed) != 2 || len(openLedger(t, n).All()) != 0 {
		t.Errorf("images %v, ledger %v; want both images and nothing held", pushed, openLedger(t, n).All())
	}
}

// TestUnfencedFailures has things happen to the pod while a checkpoint without a fence is made.
func TestUnfencedFailures(t *testing.T) {
	tests := map[string]struct {
		dumping, exporting func(*node)
		phase              v1alpha1.Phase
		want               string
	}{
		"restarted while it was dumped": {dumping: func(n *node) { n.fence.Set("id-app", fence.Gone) }, phase: v1alpha1.PhaseFailed, want: "did not stay frozen"},
		"restarted while it was pushed": {exporting: func(n *node) { n.fence.Set("id-app", fence.Gone) }, phase: v1alpha1.PhaseReady, want: "saved"},
		"deleted while it was pushed":   {exporting: (*node).deletePod, phase: v1alpha1.PhaseFailed, want: "was deleted while"},
		"frozen by others while it was pushed": {exporting: func(n *node) {
			n.fence.Set("id-app", fence.Frozen)
			n.deletePod()
		}, phase: v1alpha1.PhaseFailed, want: "was deleted while"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, onSchedule)
			a := n.live(0)
			var once sync.Once
			if tc.exporting != nil {
				a.meanwhile = func() { once.Do(func() { tc.exporting(n) }) }
			}
			if tc.dumping != nil {
				a.dumped = func() { once.Do(func() { tc.dumping(n) }) }
			}
			a.save()
			pc := n.checkpoint()
			if pc.Status.Phase != tc.phase || !strings.Contains(pc.Status.Message, tc.want) {
				t.Errorf("%s: %q, want %s with %q", pc.Status.Phase, pc.Status.Message, tc.phase, tc.want)
			}
			if strings.Contains(name, "by others") && n.fence.Get("id-app") != fence.Frozen {
				t.Error("what somebody else froze was thawed")
			}
		})
	}
}

// TestCrashWithoutAFence kills the agent before each effect of a checkpoint without a fence. In the end the pod runs, and either the checkpoint
// is Ready or nothing of it is left.
func TestCrashWithoutAFence(t *testing.T) {
	whole := newNode(t, onSchedule).live(0)
	whole.save()
	if whole.count < 12 {
		t.Fatalf("only %d effects in a whole life", whole.count)
	}
	for fatal := 1; fatal <= whole.count; fatal++ {
		t.Run(fmt.Sprintf("before effect %d", fatal), func(t *testing.T) {
			n := newNode(t, func(pc *v1alpha1.PodCheckpoint, pod *corev1.Pod) {
				onSchedule(pc, pod)
				pc.Spec.Deadline = new(metav1.NewTime(start.Add(10 * time.Minute))) // The dead one's program ends too.
			})
			first := n.live(fatal)
			first.save()
			if !first.dead() {
				t.Fatal("the agent survived")
			}
			second := n.live(0)
			if n.checkpoint().Status.Phase == "" {
				second.save()
			} else {
				second.step()
			}
			if n.checkpoint().Status.Phase != v1alpha1.PhaseReady {
				check(t, n)
			}
			if n.state() != "running" || len(openLedger(t, n).All()) != 0 {
				t.Errorf("the pod is %s, the ledger has %v", n.state(), openLedger(t, n).All())
			}
		})
	}
}

// TestYield has a pod evicted while it is pushed on a schedule: that ends at once, and the pod is saved as it is now.
func TestYield(t *testing.T) {
	tests := map[string]struct {
		first, second bool // whether they have a fence
		ends          bool
	}{
		"a scheduled one, then an eviction":  {false, true, true},
		"a scheduled one, then a second one": {false, false, false},
		"an eviction, then a second one":     {true, true, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, func(pc *v1alpha1.PodCheckpoint, _ *corev1.Pod) { pc.Spec.Fence = tc.first })
			other := n.checkpoint()
			other.ObjectMeta = metav1.ObjectMeta{Namespace: key.Namespace, Name: "web-2", UID: "pc-2"}
			other.Spec.Fence = tc.second
			if err := n.api.Create(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			a := n.live(0)
			hanging := &hangingDumper{began: make(chan struct{}, 2)}
			a.Dumper = hanging
			a.step()
			await(a, hanging.began)
			result, err := a.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(other)})
			if err != nil || result.RequeueAfter == 0 {
				t.Fatalf("Reconcile = %+v, %v; want another look", result, err)
			}
			if tc.ends {
				await(a, a.woken)
				check(t, n)
			} else if got := n.checkpoint().Status.Phase; got.Final() {
				t.Errorf("the first one is %s", got)
			}
			a.Stop(t.Context())
		})
	}
}

// TestFrozenUntil tells others when the pod has to be thawed because of a probe.
func TestFrozenUntil(t *testing.T) {
	n := newNode(t, func(_ *v1alpha1.PodCheckpoint, pod *corev1.Pod) {
		pod.Spec.Containers[0].LivenessProbe = liveness(5, 1, 3)
	})
	n.live(0).save()
	if got := n.checkpoint().Status.FrozenUntil; got == nil || !got.Time.Equal(start.Add(10*time.Second)) {
		t.Errorf("frozenUntil = %v, want 10 s after the freeze", got)
	}
}
