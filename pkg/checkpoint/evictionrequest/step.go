// SPDX-License-Identifier: Apache-2.0

package evictionrequest

import (
	"cmp"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	lifecyclev1alpha1 "k8s.io/api/lifecycle/v1alpha1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
	"github.com/cryopod/cryopod/pkg/wish"
)

// heartbeat is how often a turn that goes on is reported. The API asks for no more than one in 20 s, and passes the turn on after 20
// minutes without any.
const heartbeat = 30 * time.Second

// Action is what to do next in a turn.
type Action string

// The actions.
const (
	// Nothing is to be done: it is not our turn.
	Nothing Action = ""
	// Report writes a heartbeat, with how far the checkpoint is.
	Report Action = "Report"
	// Evict asks the API server to evict the pod. Admission saves it first, and refuses until that is done.
	Evict Action = "Evict"
	// Complete ends the turn.
	Complete Action = "Complete"
)

// Case is what the next step depends on.
type Case struct {
	// Eviction is the Eviction that the EvictionRequests of the pod have led to.
	Eviction *lifecyclev1alpha1.Eviction
	// Pod is the Eviction's target, nil when there is none of that UID (any more).
	Pod *corev1.Pod
	// Checkpoints are the PodCheckpoints of the pod.
	Checkpoints []v1alpha1.PodCheckpoint
	// Now is the time.
	Now time.Time
}

// Step is an action with what it writes.
type Step struct {
	Action Action
	// Message is for people.
	Message string
	// Expected is when the turn is over at the latest; for Report.
	Expected time.Time
	// Outcome is how the turn ended; for Complete.
	Outcome metrics.ResponseOutcome
}

// Next decides about one turn. Whether, and until when, the pod is saved is not decided here: admission does that for every eviction.
func Next(c Case) Step {
	mine := turn(c.Eviction)
	if mine == nil {
		return Step{}
	}
	if c.Pod == nil || over(c.Pod) {
		return Step{Action: Complete, Message: "the pod has gone", Outcome: metrics.ResponseGone}
	}
	cur := latest(c.Checkpoints)
	switch {
	case !inject.Enabled(c.Pod):
		return handOver("the pod is not opted in to Cryopod")
	case !wish.Triggered(c.Pod, v1alpha1.TriggerEviction):
		return handOver("its annotation " + v1alpha1.AnnotationOn + " leaves evictions out")
	case failedInTurn(cur, mine) && wish.OnFailure(c.Pod) == v1alpha1.OnFailureEvict:
		return handOver(cmp.Or(cur.Status.Message, "the checkpoint failed"))
	case mine.HeartbeatTime == nil, c.Now.Sub(mine.HeartbeatTime.Time) >= heartbeat:
		return report(c, cur)
	}
	return Step{Action: Evict}
}

// turn is our entry in the status where it is our turn, else nil.
func turn(ev *lifecyclev1alpha1.Eviction) *lifecyclev1alpha1.ResponderStatus {
	active := false
	for i := range ev.Status.TargetResponders {
		if r := &ev.Status.TargetResponders[i]; r.Name == v1alpha1.EvictionResponder {
			active = r.State == lifecyclev1alpha1.ResponderStateActive
		}
	}
	if !active {
		return nil
	}
	for i := range ev.Status.Responders {
		if r := &ev.Status.Responders[i]; r.Name == v1alpha1.EvictionResponder && r.StartTime != nil && r.CompletionTime == nil {
			return r
		}
	}
	return nil
}

// over tells whether the pod is on its way out, or has ended: nothing of it is left to save.
func over(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// latest is the last attempt to save the pod for its end, nil when there is none.
func latest(all []v1alpha1.PodCheckpoint) *v1alpha1.PodCheckpoint {
	var last *v1alpha1.PodCheckpoint
	for i := range all {
		if pc := &all[i]; pc.Spec.Fence && (last == nil || match.Attempt(pc.Name) > match.Attempt(last.Name)) {
			last = pc
		}
	}
	return last
}

// failedInTurn tells whether the attempt was made, and failed, since our turn began. An older failure is none of this eviction's.
func failedInTurn(pc *v1alpha1.PodCheckpoint, mine *lifecyclev1alpha1.ResponderStatus) bool {
	return pc != nil && pc.Status.Phase == v1alpha1.PhaseFailed && !pc.CreationTimestamp.Time.Before(mine.StartTime.Time)
}

func report(c Case, pc *v1alpha1.PodCheckpoint) Step {
	s := Step{Action: Report, Message: "the pod is to be saved", Expected: c.Now.Add(wish.Deadline(c.Pod))}
	if pc == nil || pc.Status.Phase.Final() {
		return s
	}
	s.Message = fmt.Sprintf("PodCheckpoint %s is %s", pc.Name, cmp.Or(pc.Status.Phase, v1alpha1.PhasePending))
	// The API refuses a time that is over.
	if pc.Spec.Deadline != nil && pc.Spec.Deadline.After(c.Now) {
		s.Expected = pc.Spec.Deadline.Time
	}
	return s
}

func handOver(why string) Step {
	return Step{Action: Complete, Message: why + "; the next responder goes on", Outcome: metrics.ResponseHandedOver}
}
