// SPDX-License-Identifier: Apache-2.0

package claim

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

// Step is what is to be done about a claim. Its zero value is nothing.
type Step struct {
	// Status is what to write; nil is nothing.
	Status *v1alpha1.PodCheckpointStatus
	// Event is published after the write, unless its Reason is empty.
	Event event.Event
	// Outcome is counted after the write, unless it is empty.
	Outcome metrics.ClaimOutcome
	// Lost is whether the restore that the claim was made for is over.
	Lost bool
	// After is when to look again; 0 is when something changes.
	After time.Duration
}

// Next is what is to be done about the claim of a PodCheckpoint in the phase Claimed, given the pod that carries it, nil when there
// is none. An unbound claim is given back when it is unboundAfter old.
func Next(pc *v1alpha1.PodCheckpoint, carrier *corev1.Pod, now time.Time, unboundAfter time.Duration) Step {
	claim := pc.Status.Claim
	if pc.Status.Phase != v1alpha1.PhaseClaimed || claim == nil {
		return Step{}
	}
	switch {
	case claim.PodUID != "" && carrier == nil:
		return lost(pc, now)
	case claim.PodUID != "":
		return Step{}
	case carrier != nil:
		return bind(pc, carrier)
	}
	if rest := claim.Time.Add(unboundAfter).Sub(now); rest > 0 {
		return Step{After: rest}
	}
	return giveBack(pc, now)
}

// Carries tells whether the pod was admitted with the PodCheckpoint's claim and, once the claim is bound, is the very pod.
func Carries(pod *corev1.Pod, pc *v1alpha1.PodCheckpoint) bool {
	return pod.Namespace == pc.Namespace && pod.Annotations[v1alpha1.AnnotationRestoreFrom] == pc.Name && match.Holds(pod, pc.Status.Claim)
}

func bind(pc *v1alpha1.PodCheckpoint, carrier *corev1.Pod) Step {
	state := ""
	if match.SourceLost(pc) {
		state = fmt.Sprintf(", which was %s old when it was claimed (what happened since is lost)", match.Age(pc, pc.Status.Claim.Time.Time))
	}
	status := pc.Status.DeepCopy()
	status.Claim.PodName = carrier.Name
	status.Claim.PodUID = carrier.UID
	status.Claim.NodeName = carrier.Spec.NodeName
	return Step{
		Status: status, Outcome: metrics.ClaimBound,
		Event: event.Event{
			Type: corev1.EventTypeNormal, Reason: event.ReasonClaimed, Action: "Bind",
			Message: fmt.Sprintf("Pod %q takes over from pod %q by PodCheckpoint %q%s; restoring it on the node that it is scheduled to",
				carrier.Name, pc.Spec.PodName, pc.Name, state),
		},
	}
}

func giveBack(pc *v1alpha1.PodCheckpoint, now time.Time) Step {
	status := pc.Status.DeepCopy()
	status.Claim = nil
	status.Enter(v1alpha1.PhaseReady, "The pod that claimed the checkpoint was never created; the next fitting one may take it", now)
	return Step{Status: status, Outcome: metrics.ClaimReturned}
}

// lost ends a checkpoint whose pod went away before its restore was seen. It is not given back: the process may have run.
func lost(pc *v1alpha1.PodCheckpoint, now time.Time) Step {
	message := fmt.Sprintf("Pod %q was deleted before it was seen running from its checkpoint; the next one starts cold",
		pc.Status.Claim.PodName)
	status := pc.Status.DeepCopy()
	status.Enter(v1alpha1.PhaseFailed, message, now)
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionRestored, Status: metav1.ConditionFalse, Reason: event.ReasonRestoreFailed,
		Message: message, LastTransitionTime: metav1.NewTime(now),
	})
	return Step{
		Status: status, Lost: true,
		Event: event.Event{
			Type: corev1.EventTypeWarning, Reason: event.ReasonRestoreFailed, Action: "GiveUp", Message: message,
		},
	}
}
