// SPDX-License-Identifier: Apache-2.0

package match

import (
	"time"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// fenceMargin is what has to be left of a fence for the pod to be let go: time for the API server to delete it before its
// agent thaws it, and as much for clocks that differ, for Ready is written by the node's.
const fenceMargin = 2 * time.Second

// ReadyTime is when the checkpoint became Ready; its creation, where that is not noted.
func ReadyTime(pc *v1alpha1.PodCheckpoint) time.Time {
	if at, ok := pc.Status.Entered(v1alpha1.PhaseReady); ok {
		return at
	}
	return pc.CreationTimestamp.Time
}

// DeadlineOf is the checkpoint's deadline; one made by hand may have none, and counts as if it had the usual one.
func DeadlineOf(pc *v1alpha1.PodCheckpoint) time.Time {
	if pc.Spec.Deadline != nil {
		return pc.Spec.Deadline.Time
	}
	return pc.CreationTimestamp.Add(v1alpha1.DefaultDeadline)
}

// FenceEnd is until when the agent keeps the pod of a Ready checkpoint frozen.
func FenceEnd(pc *v1alpha1.PodCheckpoint) time.Time {
	span := time.Duration(pc.Spec.FenceSeconds) * time.Second
	if span <= 0 {
		span = v1alpha1.DefaultFence
	}
	end := ReadyTime(pc).Add(span)
	if until := pc.Status.FrozenUntil; until != nil && until.Time.Before(end) {
		end = until.Time
	}
	return end
}

// FenceHolds tells whether the pod of a Ready checkpoint is sure to stand still for long enough to be ended now. About when its fence ends, or
// when it is called off, it is thawed, and might go on for a moment and lose that.
func FenceHolds(pc *v1alpha1.PodCheckpoint, now time.Time) bool {
	if CalledOff(pc) != "" {
		return false
	}
	end := FenceEnd(pc)
	margin := min(fenceMargin, end.Sub(ReadyTime(pc))/2)
	return now.Before(end.Add(-margin))
}

// MayBeFrozen tells whether the checkpoint's pod stands still, or is about to, and may be evicted any moment.
func MayBeFrozen(pc *v1alpha1.PodCheckpoint, now time.Time) bool {
	switch {
	case !pc.Spec.Fence:
		return false
	case pc.Status.Phase == v1alpha1.PhaseReady:
		return now.Before(FenceEnd(pc))
	case pc.Status.Phase == v1alpha1.PhaseClaimed:
		// Its pod is gone, and the budget knows.
		return false
	}
	return !pc.Status.Phase.Final() && now.Before(DeadlineOf(pc))
}
