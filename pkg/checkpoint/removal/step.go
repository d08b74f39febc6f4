// SPDX-License-Identifier: Apache-2.0

package removal

import (
	"cmp"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

const (
	// awayAfter is how long after a fence's end the agent is taken to be away that has not released the pod: it still stands still then.
	awayAfter = 10 * time.Second

	// staleAfter is how long after its deadline a pod is still removed because of a checkpoint that came to nothing. Who comes later has another
	// reason. As long as the pod is there, it is looked at again after that time: the clock may have jumped, and back.
	staleAfter = time.Minute
)

// Step is what is to be done about the pod of a PodCheckpoint. Its zero value is nothing.
type Step struct {
	// Remove is whether the pod is to be ended now.
	Remove bool
	// Cold says why the pod goes without a checkpoint, empty when it is saved.
	Cold string
	// Overdue is whether the attempt says nothing of the pod any more, which was to be gone by now: a later attempt may do.
	Overdue bool
	// After is when to look again; 0 is when something changes.
	After time.Duration
}

// Next is what is to be done at that time about the pod, nil when there is none, that the PodCheckpoint saves and that Cryopod ends itself.
func Next(pc *v1alpha1.PodCheckpoint, pod *corev1.Pod, now time.Time) Step {
	if pod == nil || pod.UID != pc.Spec.PodUID || Over(pod) {
		return Step{}
	}
	switch pc.Status.Phase {
	case v1alpha1.PhaseReady:
		return saved(pc, now)
	case v1alpha1.PhaseClaimed, v1alpha1.PhaseRestored:
		// Another pod has its memory.
		return Step{Remove: true}
	case v1alpha1.PhaseFailed:
	case v1alpha1.PhaseReleased:
		switch reason(pc) {
		case v1alpha1.ReasonMaxFreeze:
		case v1alpha1.ReasonCalledOff:
			return Step{}
		default:
			return overdue(pc, now)
		}
	default:
		return Step{}
	}
	if !now.Before(match.DeadlineOf(pc).Add(staleAfter)) {
		return Step{After: staleAfter}
	}
	return Step{Remove: true, Cold: cmp.Or(pc.Status.Message, "the checkpoint failed")}
}

// overdue ends the pod of one who deleted it, and was told by when it goes in any case, though nobody did so while it stood still.
func overdue(pc *v1alpha1.PodCheckpoint, now time.Time) Step {
	left := match.DeadlineOf(pc).Sub(now)
	switch {
	case match.RemovalOf(pc) != v1alpha1.RemovalDelete:
		return Step{}
	case left <= -staleAfter:
		return Step{After: staleAfter}
	case left > 0:
		return Step{After: left}
	}
	return Step{Remove: true, Overdue: true, Cold: "nobody ended the pod in time after its checkpoint, and the deadline is over"}
}

// saved ends the pod while it is sure to stand still. Where that is not so, its agent is about to release it, and somebody begins anew.
func saved(pc *v1alpha1.PodCheckpoint, now time.Time) Step {
	if !pc.Spec.Fence {
		return Step{}
	}
	away := match.FenceEnd(pc).Add(awayAfter)
	if match.FenceHolds(pc, now) || !now.Before(away) {
		return Step{Remove: true}
	}
	return Step{After: away.Sub(now)}
}

// Over tells whether the pod is on its way already, or has ended.
func Over(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// reason is why there is no checkpoint, as programs read it.
func reason(pc *v1alpha1.PodCheckpoint) string {
	ready := meta.FindStatusCondition(pc.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status != metav1.ConditionFalse {
		return ""
	}
	return ready.Reason
}
