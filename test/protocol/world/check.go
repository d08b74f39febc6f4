// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Invariant is one of the five.
type Invariant string

// The invariants.
const (
	// OneLiveCopy: at most one process with a memory runs, and of a checkpoint with a fence none does after its cut what another one did.
	OneLiveCopy Invariant = "at most one live copy"
	// PodRuns: in the end the pod runs, restored or cold, and nothing stands still.
	PodRuns Invariant = "the pod ends up running"
	// NoPartialImage: no process starts from a checkpoint that is not whole.
	NoPartialImage Invariant = "no partial image is used"
	// NotHeld: who asks for a pod's end after the deadline is not put off.
	NotHeld Invariant = "no eviction is held past its deadline"
	// ClaimEnds: in the end no checkpoint is claimed by a pod that neither runs from it nor was sent back.
	ClaimEnds Invariant = "a claim ends"
)

// Violation is that an invariant does not hold.
type Violation struct {
	Invariant Invariant
	What      string
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s", v.Invariant, v.What) }

func (w *World) violate(i Invariant, format string, args ...any) {
	if w.result.Violation == nil {
		w.result.Violation = &Violation{i, fmt.Sprintf(format, args...)}
	}
}

// check looks at what must hold at each moment.
func (w *World) check() {
	w.standing()
	for mem, cs := range w.alive() {
		if len(cs) > 1 {
			slices.SortFunc(cs, func(a, b *Container) int { return a.since.Compare(b.since) })
			w.violate(OneLiveCopy, "%s lives in %s and in %s", mem.name, cs[0], cs[1])
		}
	}
}

// still is how long a pod that nobody has deleted may stand still: before its checkpoint is Ready, after that until its fence ends, and
// as long again for each thing that goes wrong.
const still = 3 * time.Minute

// standing checks that no pod stands still for too long.
func (w *World) standing() {
	bound := still * time.Duration(1+len(w.plan))
	for _, n := range w.nodes {
		for _, c := range n.containers {
			if c.state != fence.Frozen || time.Since(c.since) < bound {
				continue
			}
			if pod := w.pod(key(c.pod)); pod != nil && pod.UID == c.podUID && pod.DeletionTimestamp == nil {
				w.violate(PodRuns, "%s has stood still for %s", c, bound)
			}
		}
	}
}

// slack is how much later than the deadline an eviction may be put off in a schedule in which clocks jump and requests stall.
const slack = 50 * time.Second

// answered checks the answer to a request that a pod go.
func (w *World) answered(pod string, asked time.Time, resp *admission.Response) {
	p := w.pod(key(pod))
	if p == nil {
		return
	}
	first, known := w.asks[p.UID]
	if !known || asked.Sub(first) > deadline+slack+newCampaign {
		first = asked
		w.asks[p.UID] = asked
	}
	bound := deadline + time.Second
	if w.disturbed {
		bound += slack
	}
	if denied(resp) != nil && asked.Sub(first) > bound {
		w.violate(NotHeld, "pod %s was to go %s ago, and the request is put off again", pod, asked.Sub(first).Round(time.Second))
	}
}

// settled tells whether all is well, and nothing more is going to happen.
func (w *World) settled() bool { return w.unrest() == nil }

// unsettled says what is not well when the time is over.
func (w *World) unsettled() {
	if v := w.unrest(); v != nil {
		w.violate(v.Invariant, "after %s %s", span, v.What)
	}
}

// unrest is why the world is not as it should be in the end, nil when it is.
func (w *World) unrest() *Violation {
	w.mu.Lock()
	busy := len(w.agenda) + len(w.pending) + len(w.arriving) + len(w.ready)
	w.mu.Unlock()
	if busy > 0 || w.usersEnded < w.users {
		return &Violation{PodRuns, "somebody is still at work"}
	}
	for _, pc := range w.checkpoints() {
		switch {
		case pc.Status.Phase == v1alpha1.PhaseClaimed:
			return &Violation{ClaimEnds, fmt.Sprintf("PodCheckpoint %s is still claimed", pc.Name)}
		case !pc.Status.Phase.Final() && (pc.Spec.Fence || w.source() == nil):
			return &Violation{PodRuns, fmt.Sprintf("PodCheckpoint %s is still %q", pc.Name, pc.Status.Phase)}
		}
	}
	for _, n := range w.nodes {
		for _, c := range n.containers {
			if c.state == fence.Frozen {
				return &Violation{PodRuns, c.String() + " stands still"}
			}
		}
	}
	return w.missing()
}

// missing is what is missing of the pods that there should be.
func (w *World) missing() *Violation {
	running := 0
	for _, pod := range w.pods() {
		switch {
		case pod.DeletionTimestamp != nil:
			return &Violation{PodRuns, fmt.Sprintf("pod %s is still going", pod.Name)}
		case pod.Status.Phase == corev1.PodRunning && w.runs(pod):
			running++
		}
	}
	if want := w.wanted; running != want {
		return &Violation{PodRuns, fmt.Sprintf("%d pods run, not %d", running, want)}
	}
	must := w.script.MustGo || w.script.IfPromised && w.promised
	if uid := w.script.sourceUID; must && w.source() != nil {
		return &Violation{PodRuns, fmt.Sprintf("pod %s (%s), which somebody asked to go and was told would go, is still there", sourcePod, uid)}
	}
	return nil
}

// runs tells whether all containers of the pod run.
func (w *World) runs(pod *corev1.Pod) bool {
	n := w.node(pod.Spec.NodeName)
	if n == nil {
		return false
	}
	cs := n.of(pod.UID)
	for i := range pod.Spec.Containers {
		if c := cs[pod.Spec.Containers[i].Name]; c == nil || c.state != fence.Running {
			return false
		}
	}
	return true
}
