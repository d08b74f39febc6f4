// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/budget"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
	"github.com/cryopod/cryopod/pkg/wish"
)

// newCampaign is how long after the deadline of its last checkpoint a request that a pod go counts as a new one. Until then it is
// the old one, tried again, and its time is up.
const newCampaign = time.Minute

// retryPause is what v1alpha1.OnFailureBlock leaves between a failure and the next attempt, times the attempts so far; maxRetryPause
// bounds it.
const (
	retryPause    = 5 * time.Second
	maxRetryPause = time.Minute
)

// Action is what to do about a request that a pod go.
type Action string

// The actions. After the first three the request is answered.
const (
	// Allow lets the request through as it came.
	Allow Action = "Allow"
	// AllowSaved lets the pod go, with its UID as precondition and a grace period of 1 s.
	AllowSaved Action = "AllowSaved"
	// PutOff denies it with 429: the client comes again.
	PutOff Action = "PutOff"
	// Begin makes the PodCheckpoint of Decision.Attempt.
	Begin Action = "Begin"
	// GiveUp writes Failed into Decision.Checkpoint, whose agent is away.
	GiveUp Action = "GiveUp"
	// Wait holds the request until Decision.Checkpoint changes or Decision.Until has come.
	Wait Action = "Wait"
)

// Case is everything that the answer to a request that a pod go depends on, in whatever form it came.
type Case struct {
	// Pod is the pod as the API server has it.
	Pod *corev1.Pod
	// Trigger is the way in which the pod is to go.
	Trigger v1alpha1.Trigger
	// Removal is who ends the pod if the client does not come again: v1alpha1.RemovalNone for nobody.
	Removal v1alpha1.Removal
	// Limit is when the pod goes in any case, its node with it; zero where no such time is known.
	Limit time.Time
	// Delete are the request's deleteOptions, nil when it has none.
	Delete *metav1.DeleteOptions
	// Told is whether one of our own controllers asks that tells itself why the pod goes without a checkpoint.
	Told bool
	// DryRun is whether the request itself is a dry run.
	DryRun bool
	// Checkpoints are the PodCheckpoints of the pod's UID, in any order.
	Checkpoints []*v1alpha1.PodCheckpoint
	// Silent is whether the pod's node is known not to answer any more: nobody is there to save the pod.
	Silent bool
	// Profile is that of the pod's node, nil when there is none.
	Profile *v1alpha1.NodeProfile
	// Budgets are the PodDisruptionBudgets of the namespace that the request has to respect.
	Budgets []policyv1.PodDisruptionBudget
	// Rivals is how many other pods of the same owner are frozen, or about to be, to be evicted.
	Rivals int
	// Now is the time.
	Now time.Time
	// HoldUntil is until when this request may be held.
	HoldUntil time.Time
	// PickupTimeout and MaxAttempts are those of Options.
	PickupTimeout time.Duration
	MaxAttempts   int
}

// Decision is what to do next about a request that a pod go.
type Decision struct {
	Action Action
	// Outcome is how the answer is counted; empty where the action gives none.
	Outcome metrics.EvictionDecision
	// Why is a clause for people. A request allowed without a checkpoint has one wherever the owner expected a checkpoint.
	Why string
	// Attempt and Deadline are those of the PodCheckpoint to make.
	Attempt  int
	Deadline time.Time
	// Checkpoint is the one to wait for or to give up.
	Checkpoint *v1alpha1.PodCheckpoint
	// Until is when to decide anew at the latest.
	Until time.Time
}

// Decide says what to do next about a request that a pod go.
func Decide(c Case) Decision {
	switch {
	case c.DryRun || c.Delete != nil && len(c.Delete.DryRun) > 0:
		return Decision{Action: Allow, Outcome: metrics.EvictionDryRun}
	case !inject.Enabled(c.Pod), over(c.Pod), otherPod(c.Pod, c.Delete):
		return Decision{Action: Allow, Outcome: metrics.EvictionUntouched}
	}
	cur := current(c.Checkpoints, c.Now)
	if !wanted(c, cur) {
		return Decision{Action: Allow, Outcome: metrics.EvictionUntouched}
	}
	if cur == nil {
		return begin(c, c.limit(c.Now.Add(wish.Deadline(c.Pod))))
	}
	limit := c.limit(match.DeadlineOf(cur))
	switch cur.Status.Phase {
	case v1alpha1.PhaseReady:
		return saved(c, cur, limit)
	case v1alpha1.PhaseClaimed, v1alpha1.PhaseRestored:
		return Decision{Action: AllowSaved, Outcome: metrics.EvictionSaved, Checkpoint: cur}
	case v1alpha1.PhaseFailed:
		return failed(c, cur, limit)
	case v1alpha1.PhaseReleased, v1alpha1.PhaseExpired:
		switch {
		case notReady(cur) == v1alpha1.ReasonMaxFreeze:
			return failed(c, cur, limit)
		case !c.Now.Before(limit):
			return cold(c, metrics.EvictionLate, "the pod was not deleted in time after its checkpoint, and the deadline is over")
		case attempts(c.Checkpoints, cur) >= c.MaxAttempts:
			return cold(c, metrics.EvictionCold,
				fmt.Sprintf("the pod was not deleted in time after any of %d checkpoints", c.MaxAttempts))
		}
		return begin(c, limit)
	}
	return underway(c, cur, limit)
}

// wanted tells whether the pod is to be saved when it goes that way, or is being saved already as it goes another: an eviction that
// follows a termination's notice must not end the pod before that is done.
func wanted(c Case, cur *v1alpha1.PodCheckpoint) bool {
	if wish.Triggered(c.Pod, c.Trigger) {
		return true
	}
	return cur != nil && !cur.Status.Phase.Final() && c.Trigger != v1alpha1.TriggerDelete
}

// limit is the time, or when the pod goes in any case if that is earlier.
func (c Case) limit(at time.Time) time.Time {
	if c.Limit.IsZero() {
		return at
	}
	return earlier(at, c.Limit)
}

// failed decides after an attempt that gave no checkpoint. A pod that somebody ends in any case is not kept for another attempt, and one
// that stood still for too long would do so again.
func failed(c Case, cur *v1alpha1.PodCheckpoint, limit time.Time) Decision {
	why := cmp.Or(cur.Status.Message, "the checkpoint failed")
	if c.Removal != v1alpha1.RemovalNone || wish.OnFailure(c.Pod) != v1alpha1.OnFailureBlock || !c.Now.Before(limit) {
		return cold(c, metrics.EvictionCold, why)
	}
	again := limit
	if notReady(cur) != v1alpha1.ReasonMaxFreeze {
		pause := min(time.Duration(attempts(c.Checkpoints, cur))*retryPause, maxRetryPause)
		again = earlier(failedAt(cur).Add(pause), limit)
	}
	if !c.Now.Before(again) {
		return begin(c, limit)
	}
	return Decision{Action: PutOff, Outcome: metrics.EvictionPutOff, Checkpoint: cur, Until: again, Why: why}
}

// notReady is the reason that the agent gave for an attempt that ended without a checkpoint, empty where it gave none.
func notReady(pc *v1alpha1.PodCheckpoint) string {
	ready := meta.FindStatusCondition(pc.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status != metav1.ConditionFalse {
		return ""
	}
	return ready.Reason
}

// failedAt is when the attempt failed; its creation, where that is not noted.
func failedAt(pc *v1alpha1.PodCheckpoint) time.Time {
	if at, ok := pc.Status.Entered(v1alpha1.PhaseFailed); ok {
		return at
	}
	return pc.CreationTimestamp.Time
}

// saved decides about a checkpoint that is Ready. About when its fence ends, the pod is thawed, and let through now, it might go on for a
// moment and lose that: better to wait until it is Released, and freeze it again. An agent that does not release it is away, or its clock is
// another one; then the pod still stands still.
func saved(c Case, cur *v1alpha1.PodCheckpoint, limit time.Time) Decision {
	away := earlier(match.FenceEnd(cur).Add(c.PickupTimeout), limit)
	switch {
	case match.FenceHolds(cur, c.Now), !c.Now.Before(away):
		return Decision{Action: AllowSaved, Outcome: metrics.EvictionSaved, Checkpoint: cur}
	case !c.Now.Before(c.HoldUntil):
		return Decision{Action: PutOff, Outcome: metrics.EvictionPutOff, Checkpoint: cur, Until: away}
	}
	return Decision{Action: Wait, Checkpoint: cur, Until: earlier(away, c.HoldUntil)}
}

// underway decides while the checkpoint is being made.
func underway(c Case, cur *v1alpha1.PodCheckpoint, limit time.Time) Decision {
	until := limit
	// An agent that has written Pending is there; the pod waits for its turn among others of its node.
	if cur.Status.Phase == "" {
		pickup := cur.CreationTimestamp.Add(c.PickupTimeout)
		if !c.Now.Before(pickup) && c.Now.Before(limit) {
			return Decision{Action: GiveUp, Checkpoint: cur,
				Why: fmt.Sprintf("the agent of the node %q did not answer within %s", cur.Spec.NodeName, c.PickupTimeout)}
		}
		until = earlier(until, pickup)
	}
	switch {
	case !c.Now.Before(limit):
		return cold(c, metrics.EvictionLate, "the checkpoint was not ready before the deadline")
	case !c.Now.Before(c.HoldUntil):
		return Decision{Action: PutOff, Outcome: metrics.EvictionPutOff, Checkpoint: cur, Until: limit}
	}
	return Decision{Action: Wait, Checkpoint: cur, Until: earlier(until, c.HoldUntil)}
}

// begin decides where there is no checkpoint to go on with.
func begin(c Case, limit time.Time) Decision {
	if c.Silent {
		return cold(c, metrics.EvictionUntouched, fmt.Sprintf("the node %q does not answer", c.Pod.Spec.NodeName))
	}
	if why := match.NotNow(c.Pod, c.Profile); why != "" {
		return cold(c, metrics.EvictionUntouched, why)
	}
	if budget.Refuses(c.Pod, c.Budgets) {
		return Decision{Action: Allow, Outcome: metrics.EvictionBudget}
	}
	if !c.Now.Before(limit) {
		return cold(c, metrics.EvictionLate, "the time that is left to its node is over")
	}
	if d, crowded := standBack(c); crowded {
		return d
	}
	last := 0
	for _, pc := range c.Checkpoints {
		last = max(last, match.Attempt(pc.Name))
	}
	return Decision{Action: Begin, Attempt: last + 1, Deadline: limit}
}

// standBack puts an eviction off that its budget would refuse after those that are under way, before anything is frozen for it. They
// end within their own deadlines; from then on the budget knows of them and answers itself.
func standBack(c Case) (Decision, bool) {
	full := budget.CrowdedOut(c.Pod, c.Budgets, c.Rivals)
	if full == "" {
		return Decision{}, false
	}
	return Decision{Action: PutOff, Outcome: metrics.EvictionBudget, Why: fmt.Sprintf(
		"%d other pod(s) are being moved, as many as the PodDisruptionBudget %q allows at a time", c.Rivals, full)}, true
}

// cold lets the request through without a checkpoint, and says nothing where a budget keeps the pod in place anyway.
func cold(c Case, outcome metrics.EvictionDecision, why string) Decision {
	if budget.Refuses(c.Pod, c.Budgets) {
		return Decision{Action: Allow, Outcome: metrics.EvictionBudget}
	}
	return Decision{Action: Allow, Outcome: outcome, Why: why}
}

// over tells whether nothing of the pod is left to save, or nothing runs yet. The API server deletes such pods without asking
// a budget.
func over(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || pod.Spec.NodeName == "" || pod.Status.Phase != corev1.PodRunning
}

// otherPod tells whether the request means another pod of that name, or another state of it: the API server refuses it.
func otherPod(pod *corev1.Pod, d *metav1.DeleteOptions) bool {
	if d == nil || d.Preconditions == nil {
		return false
	}
	uid, version := d.Preconditions.UID, d.Preconditions.ResourceVersion
	return uid != nil && *uid != pod.UID || version != nil && *version != pod.ResourceVersion
}

// current is the checkpoint that this request goes on with: the latest that keeps its pod frozen, as only such a one may lead
// to the pod's end. Nil when there is none or when it belongs to a request of long ago.
func current(all []*v1alpha1.PodCheckpoint, now time.Time) *v1alpha1.PodCheckpoint {
	var cur *v1alpha1.PodCheckpoint
	for _, pc := range all {
		if pc.Spec.Fence && (cur == nil || match.Attempt(pc.Name) > match.Attempt(cur.Name)) {
			cur = pc
		}
	}
	if cur != nil && cur.Status.Phase.Final() && !now.Before(match.DeadlineOf(cur).Add(newCampaign)) {
		return nil
	}
	return cur
}

// attempts is how many checkpoints were made for the same request as cur: they share its deadline.
func attempts(all []*v1alpha1.PodCheckpoint, cur *v1alpha1.PodCheckpoint) int {
	return len(slices.DeleteFunc(slices.Clone(all), func(pc *v1alpha1.PodCheckpoint) bool {
		return !pc.Spec.Fence || !pc.Spec.Deadline.Equal(cur.Spec.Deadline)
	}))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
