// SPDX-License-Identifier: Apache-2.0

package expiry

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// Limits bound how long PodCheckpoints live.
type Limits struct {
	// ReadyFor is how long a checkpoint waits for a pod to claim it. An attempt without a deadline gets as long, and what it may freeze
	// the pod for.
	ReadyFor time.Duration
}

// Step is what is to be done about a PodCheckpoint because of its age. Its zero value is nothing.
type Step struct {
	// Status is what to write; nil is nothing.
	Status *v1alpha1.PodCheckpointStatus
	// Outcome is counted after the write.
	Outcome metrics.Outcome
	// Event is published after the write, unless its Reason is empty.
	Event event.Event
	// After is when to look again; 0 is when something changes.
	After time.Duration
}

// Next is what is to be done about the PodCheckpoint at that time. SourceGone tells whether the pod that it saves exists no more; it
// matters as long as UnderWay is true.
func Next(pc *v1alpha1.PodCheckpoint, sourceGone bool, now time.Time, limits Limits) Step {
	switch {
	case UnderWay(pc):
		return nextUnderWay(pc, sourceGone, now, limits)
	case Waits(pc):
		return at(waitsSince(pc).Add(limits.ReadyFor), now, func() Step { return expire(pc, now, limits) })
	}
	return Step{}
}

// Waits tells whether the checkpoint is there for a pod to claim it. One that was made on a schedule is not, as long as its pod is not lost:
// package standby sees to it.
func Waits(pc *v1alpha1.PodCheckpoint) bool {
	standby := pc.Spec.Reason == v1alpha1.ReasonSchedule && !pc.Spec.Fence && !match.SourceLost(pc)
	return pc.Status.Phase == v1alpha1.PhaseReady && !standby
}

// waitsSince is since when: since it is Ready, or since its pod is known to be lost.
func waitsSince(pc *v1alpha1.PodCheckpoint) time.Time {
	if c := meta.FindStatusCondition(pc.Status.Conditions, v1alpha1.ConditionSourceLost); c != nil && match.SourceLost(pc) {
		return c.LastTransitionTime.Time
	}
	if ready, known := pc.Status.Entered(v1alpha1.PhaseReady); known {
		return ready
	}
	return pc.CreationTimestamp.Time
}

// ByName tells whether the checkpoint waits for a pod of the very name of the one that it saves.
func ByName(pc *v1alpha1.PodCheckpoint) bool {
	owner := pc.Status.Owner
	return Waits(pc) && owner != nil && owner.Slot == pc.Spec.PodName
}

// Replaced ends a checkpoint for which ByName is true when its pod was made anew without it, say because no webhook answered. From then
// on the pod's volumes are the new one's: a later pod that started from the checkpoint would work on them with an old memory.
func Replaced(pc *v1alpha1.PodCheckpoint, now time.Time) Step {
	message := fmt.Sprintf("Pod %q was made anew without its checkpoint and started cold", pc.Spec.PodName)
	status := pc.Status.DeepCopy()
	status.Enter(v1alpha1.PhaseExpired, message, now)
	return Step{
		Status: status, Outcome: metrics.OutcomeExpired,
		Event: event.Event{Type: corev1.EventTypeWarning, Reason: event.ReasonFailed, Action: "GiveUp", Message: message},
	}
}

// UnderWay tells whether the agent is still at work, or about to be.
func UnderWay(pc *v1alpha1.PodCheckpoint) bool {
	switch pc.Status.Phase {
	case "", v1alpha1.PhasePending, v1alpha1.PhaseFreezing, v1alpha1.PhaseDumping, v1alpha1.PhaseExporting:
		return true
	default:
		return false
	}
}

func nextUnderWay(pc *v1alpha1.PodCheckpoint, sourceGone bool, now time.Time, limits Limits) Step {
	if sourceGone {
		return fail(pc, now, fmt.Sprintf("Pod %q was gone before its checkpoint was ready; its replacement starts cold", pc.Spec.PodName))
	}
	deadline := pc.CreationTimestamp.Add(limits.ReadyFor + time.Duration(pc.Spec.MaxFreezeSeconds)*time.Second)
	if pc.Spec.Deadline != nil {
		deadline = pc.Spec.Deadline.Time
	}
	return at(deadline, now, func() Step {
		return fail(pc, now, fmt.Sprintf("The deadline passed while the checkpoint was %s; the pod goes on without it", phaseOf(pc)))
	})
}

// at is then() when that time has come, and else a wait for it.
func at(when, now time.Time, then func() Step) Step {
	if rest := when.Sub(now); rest > 0 {
		return Step{After: rest}
	}
	return then()
}

func fail(pc *v1alpha1.PodCheckpoint, now time.Time, message string) Step {
	status := pc.Status.DeepCopy()
	status.Enter(v1alpha1.PhaseFailed, message, now)
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: event.ReasonFailed,
		Message: message, LastTransitionTime: metav1.NewTime(now),
	})
	return Step{
		Status: status, Outcome: metrics.OutcomeFailed,
		Event: event.Event{Type: corev1.EventTypeWarning, Reason: event.ReasonFailed, Action: "GiveUp", Message: message},
	}
}

func expire(pc *v1alpha1.PodCheckpoint, now time.Time, limits Limits) Step {
	status := pc.Status.DeepCopy()
	status.Enter(v1alpha1.PhaseExpired, fmt.Sprintf("No pod claimed the checkpoint for %s", limits.ReadyFor), now)
	return Step{Status: status, Outcome: metrics.OutcomeExpired}
}

func phaseOf(pc *v1alpha1.PodCheckpoint) v1alpha1.Phase {
	if pc.Status.Phase == "" {
		return v1alpha1.PhasePending
	}
	return pc.Status.Phase
}
