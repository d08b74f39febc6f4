// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// checked is the series of the cycles in which nodes were compared with a checkpoint.
const checked = "cryopod_scheduler_decisions_total checked"

// counted returns how the series of restoring pods' cycles and holds have changed since they were served as before.
func counted(t *testing.T, before map[string]float64) map[string]float64 {
	t.Helper()
	changed := map[string]float64{}
	for series, value := range served(t) {
		ours := strings.HasPrefix(series, "cryopod_scheduler_decisions_total ") || strings.HasPrefix(series, "cryopod_scheduler_holds_total ")
		if value -= before[series]; ours && value != 0 {
			changed[series] = value
		}
	}
	return changed
}

// awaitHold waits until a pod was held once more than before.
func awaitHold(t *testing.T, before map[string]float64, reason string) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		return counted(t, before)["cryopod_scheduler_holds_total "+reason] == 1, nil
	})
	if err != nil {
		t.Fatalf("no pod was held because of %s; counted %v", reason, counted(t, before))
	}
}

func checkCounted(t *testing.T, before, want map[string]float64) {
	t.Helper()
	if diff := cmp.Diff(want, counted(t, before)); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}

// TestNewPodWaitsForItsCheckpoint has the pod come before what the scheduler is told of its checkpoint: it costs no cycle until then.
func TestNewPodWaitsForItsCheckpoint(t *testing.T) {
	lacking := newProfile("lacking", true)
	lacking.Status.CPUFeatures = []string{"sse2"}
	server := startAPIServer(t, newProfile("node", true), lacking)
	r := startScheduler(t, server, time.Minute, newNode("lacking"), newNode("node"))
	before := served(t)
	r.create(t, restoringPod())
	awaitHold(t, before, "checkpoint_unknown")
	server.put(newCheckpoint())
	r.awaitBinding(t, "node")
	checkCounted(t, before, map[string]float64{
		"cryopod_scheduler_holds_total checkpoint_unknown": 1, checked: 1,
	})
}

// TestNewPodDoesNotWaitForEver has the checkpoint never come.
func TestNewPodDoesNotWaitForEver(t *testing.T) {
	r := startScheduler(t, startAPIServer(t, newProfile("node", true)), time.Minute, newNode("node"))
	before := served(t)
	r.create(t, restoringPod())
	awaitHold(t, before, "checkpoint_unknown")
	r.clock.Step(6 * time.Second)
	r.awaitBinding(t, "node")
	checkCounted(t, before, map[string]float64{
		"cryopod_scheduler_holds_total checkpoint_unknown": 1, "cryopod_scheduler_decisions_total checkpoint_unknown": 1,
	})
}

// TestRefusedPodCostsNoCycles has two nodes: both can't restore the pod, and one is too small for it as well. That it grows is what the scheduler's
// queue tries such a pod again for; without a node that can restore it, that is in vain.
func TestRefusedPodCostsNoCycles(t *testing.T) {
	small, pod := sized(newNode("small"), "1"), restoringPod()
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}
	tests := map[string]struct {
		happens func(t *testing.T, r *running, server *apiServer)
		// cycles are those after the pod was held.
		cycles map[string]float64
		// stale is whether the pod may be woken before the scheduler has seen what for, which costs a cycle more.
		stale bool
		// bound is where it may go then, none for nowhere.
		bound []string
	}{
		"until its node can": {
			happens: func(_ *testing.T, _ *running, server *apiServer) { server.put(newProfile("node", true)) },
			cycles:  map[string]float64{checked: 1}, bound: []string{"node"},
		},
		"until the node that grew can": {
			happens: func(_ *testing.T, _ *running, server *apiServer) { server.put(newProfile("small", true)) },
			cycles:  map[string]float64{checked: 1}, bound: []string{"small"},
		},
		"until another node comes": {
			happens: func(t *testing.T, r *running, _ *apiServer) {
				if _, err := r.client.CoreV1().Nodes().Create(t.Context(), newNode("new"), metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			},
			cycles: map[string]float64{checked: 1}, bound: []string{"new"}, stale: true,
		},
		"until its checkpoint is over": {
			happens: func(_ *testing.T, _ *running, server *apiServer) {
				c := newCheckpoint()
				c.Status.Phase = v1alpha1.PhaseFailed
				server.put(c)
			},
			cycles: map[string]float64{"cryopod_scheduler_decisions_total checkpoint_over": 1}, bound: []string{"node", "small"},
		},
		"until its checkpoint is deleted": {
			happens: func(t *testing.T, r *running, server *apiServer) {
				server.remove(newCheckpoint())
				r.awaitRefusal(t, "2 node(s) whose agent has not verified restoring by method image")
			},
			cycles: map[string]float64{"cryopod_scheduler_decisions_total checkpoint_unknown": 1},
		},
		"until it was given up": {
			happens: func(t *testing.T, r *running, _ *apiServer) {
				r.clock.Step(hopeless)
				r.awaitGivenUp(t, "no node can restore it: 1 node(s) whose agent has not verified restoring by method image")
				r.clock.Step(6 * time.Second)
			},
			cycles: map[string]float64{"cryopod_scheduler_decisions_total patience_over": 1}, bound: []string{"node", "small"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server := startAPIServer(t, newProfile("node", false), newProfile("small", false), newProfile("new", true), newCheckpoint())
			r := startScheduler(t, server, time.Minute, newNode("node"), small)
			before := served(t)
			r.create(t, pod.DeepCopy())
			r.awaitRefusal(t, "1 Insufficient cpu, 1 node(s) whose agent has not verified restoring by method image")
			r.update(t, sized(newNode("small"), "3"))
			awaitHold(t, before, "no_node_fits")
			want := map[string]float64{"cryopod_scheduler_holds_total no_node_fits": 1, checked: 1}
			checkCounted(t, before, want)
			tc.happens(t, r, server)
			if len(tc.bound) > 0 {
				r.awaitBinding(t, tc.bound...)
			}
			for series, n := range tc.cycles {
				want[series] += n
			}
			if tc.stale && counted(t, before)[checked] == want[checked]+1 {
				return
			}
			checkCounted(t, before, want)
		})
	}
}

// TestHeldPodWakesWhenANodeIsUncordoned has a pod that its owner lets go anywhere, and one node that would be right but is cordoned.
func TestHeldPodWakesWhenANodeIsUncordoned(t *testing.T) {
	server := startAPIServer(t, newProfile("cordoned", true), newProfile("other", false), newCheckpoint())
	r := startScheduler(t, server, time.Minute, cordoned(newNode("cordoned")), newNode("other"))
	before := served(t)
	r.create(t, tolerant(restoringPod()))
	r.awaitRefusal(t, "1 node(s) that are cordoned, where nothing is restored, 1 node(s) whose agent has not verified restoring by method image")
	r.update(t, newNode("cordoned"))
	r.awaitBinding(t, "cordoned")
	if got := counted(t, before)[checked]; got != 2 && got != 3 {
		t.Errorf("the pod took %v scheduling cycles, want 2, or 3 where it was woken before the scheduler saw the node", got)
	}
}

func sized(node *corev1.Node, cpu string) *corev1.Node {
	node.Status.Allocatable = node.Status.Allocatable.DeepCopy()
	node.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse(cpu)
	return node
}

// tolerant lets the pod go to every node whatever its taints, as its owner may.
func tolerant(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists})
	return pod
}

// update replaces a node.
func (r *running) update(t *testing.T, node *corev1.Node) {
	t.Helper()
	r.versions++
	node.ResourceVersion = strconv.Itoa(r.versions) // the fake client counts none, and the scheduler skips what has the same
	if _, err := r.client.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}
