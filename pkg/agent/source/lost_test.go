// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	fencefake "github.com/cryopod/cryopod/pkg/agent/fence/fake"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// processes are those of the node's pod, as the runtime lists them.
type processes struct{ fence *fencefake.Fence }

func (p processes) Running(_ context.Context, pod types.UID) (found []fence.Container, _ error) {
	for _, id := range ids {
		if pod == "pod-uid" && p.fence.Get(id) != fence.Gone {
			found = append(found, fence.Container{Name: strings.TrimPrefix(id, "id-"), ID: id})
		}
	}
	return found, nil
}

func sourceLost(pc *v1alpha1.PodCheckpoint) {
	meta.SetStatusCondition(&pc.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionSourceLost, Status: metav1.ConditionTrue, Reason: "Test"})
}

// observed is a new life of the agent, on a node whose runtime tells what runs.
func (n *node) observed() *agent {
	a := n.live(0)
	a.Processes = processes{n.fence}
	return a
}

// TestTakenForLost has a checkpoint without a fence be given to a replacement, while the pod runs on in truth. The agent may have been there or
// not.
func TestTakenForLost(t *testing.T) {
	claimed := func(phase v1alpha1.Phase) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) {
			sourceLost(pc)
			pc.Status.Phase, pc.Status.Claim = phase, &v1alpha1.Claim{ID: "1", Time: metav1.NewMicroTime(start)}
		}
	}
	for name, tc := range map[string]struct {
		write func(*v1alpha1.PodCheckpoint)
		want  string
	}{
		"it is Ready":                {func(*v1alpha1.PodCheckpoint) {}, "running"},
		"its pod is taken for lost":  {sourceLost, "frozen"},
		"it is claimed":              {claimed(v1alpha1.PhaseClaimed), "frozen"},
		"it was restored":            {claimed(v1alpha1.PhaseRestored), "frozen"},
		"its restore failed":         {claimed(v1alpha1.PhaseFailed), "frozen"},
		"it has expired, for nobody": {func(pc *v1alpha1.PodCheckpoint) { pc.Status.Phase = v1alpha1.PhaseExpired }, "running"},
	} {
		for _, there := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				n := newNode(t, onSchedule)
				a := n.observed()
				a.save()
				n.patchStatus(tc.write)
				if !there {
					a = n.observed()
				}
				result := a.step()
				if n.state() != tc.want {
					t.Fatalf("the pod is %s, want %s", n.state(), tc.want)
				}
				told := slices.ContainsFunc(n.events, func(e string) bool { return strings.Contains(e, "SourceHalted") })
				if halted := tc.want == "frozen"; told != halted || (result.RequeueAfter > 0) != halted {
					t.Errorf("events %q, looks again after %s", n.events, result.RequeueAfter)
				}
				if tc.want != "frozen" {
					return
				}
				n.fence.Set(ids[0], fence.Running) // whoever did that
				a.step()
				if n.state() != "frozen" {
					t.Errorf("the pod is %s later", n.state())
				}
				for _, id := range ids {
					n.fence.Set(id, fence.Gone)
				}
				if result := a.step(); result.RequeueAfter != 0 {
					t.Errorf("looks again after %s although nothing is left", result.RequeueAfter)
				}
			})
		}
	}
}

// TestLostIsNotThawed has the pod frozen for an eviction when its node's object goes: the attempt comes to nothing, and an older checkpoint is
// given to a replacement.
func TestLostIsNotThawed(t *testing.T) {
	n := newNode(t, nil)
	older := n.checkpoint()
	older.ObjectMeta = metav1.ObjectMeta{Namespace: key.Namespace, Name: "web-0", UID: "pc-0"}
	older.Spec.Fence, older.Spec.Reason = false, v1alpha1.ReasonSchedule
	if err := n.api.Create(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	older.Status.Phase = v1alpha1.PhaseReady
	sourceLost(older)
	if err := n.api.Status().Update(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	a := n.observed()
	a.save()
	if _, err := a.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(older)}); err != nil {
		t.Fatal(err)
	}
	n.patchStatus(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Phase = v1alpha1.PhaseFailed })
	a.step()
	if n.state() != "frozen" {
		t.Errorf("the pod is %s", n.state())
	}
}

// TestStopOnANodeThatIsGone ends the agent, whose pod goes together with the others when the node's object was deleted.
func TestStopOnANodeThatIsGone(t *testing.T) {
	for name, tc := range map[string]struct {
		there bool
		want  string
	}{"the node is gone": {false, "frozen"}, "the node is there": {true, "running"}} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, onSchedule)
			if tc.there {
				if err := n.api.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}); err != nil {
					t.Fatal(err)
				}
			}
			a := n.observed()
			a.save()
			a.Stop(t.Context())
			if n.state() != tc.want {
				t.Errorf("the pod is %s, want %s", n.state(), tc.want)
			}
		})
	}
}
