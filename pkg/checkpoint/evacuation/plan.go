// SPDX-License-Identifier: Apache-2.0

package evacuation

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/budget"
	"github.com/cryopod/cryopod/pkg/checkpoint/removal"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/wish"
)

const (
	// pickup is how long a PodCheckpoint may have no phase before the agent of the node is taken to be away.
	pickup = 10 * time.Second

	// maxAttempts is how often a pod is frozen under one notice, when nobody ended it after the last time.
	maxAttempts = 3

	// leastTime is the least time before a deadline that an attempt is worth beginning in.
	leastTime = time.Second
)

// Do says what is to be done about a pod of a node that ends.
type Do string

// What may be done.
const (
	// Begin makes a PodCheckpoint.
	Begin Do = "Begin"
	// Remove ends the pod, after an attempt that somebody else asked for or without any.
	Remove Do = "Remove"
	// GiveUp fails an attempt that no agent has begun; the pod's end follows.
	GiveUp Do = "GiveUp"
	// Wait leaves it to time or to others: it is being saved, or not to be disturbed yet.
	Wait Do = "Wait"
)

// Action is what is to be done about one pod.
type Action struct {
	Pod *corev1.Pod
	Do  Do
	// Request is the PodCheckpoint to make.
	Request match.Request
	// Checkpoint is the attempt that is given up, or whose pod is removed, nil where there was none.
	Checkpoint *v1alpha1.PodCheckpoint
	// Cold says why the pod goes without a checkpoint; empty when it is saved.
	Cold string
	// After is when to look again at the latest; 0 is when something changes.
	After time.Duration
}

// Case is everything that the evacuation of a node depends on.
type Case struct {
	Ending
	// Pods are the opted-in pods of the node.
	Pods []corev1.Pod
	// Checkpoints are the PodCheckpoints of these pods, by the pod's UID.
	Checkpoints map[types.UID][]v1alpha1.PodCheckpoint
	// Profile is the node's, nil when it has no agent.
	Profile *v1alpha1.NodeProfile
	// Budgets are the PodDisruptionBudgets of the pods' namespaces, where they are to be respected.
	Budgets []policyv1.PodDisruptionBudget
	// Rivals is how many other pods of an owner, by its UID, may be evicted any moment.
	Rivals map[types.UID]int
}

// Plan is what is to be done at that time about the pods of a node that ends. A pod that is none of its business is not in it.
func Plan(c Case, now time.Time) []Action {
	pods := slices.Clone(c.Pods)
	slices.SortStableFunc(pods, c.before)
	rivals := map[types.UID]int{}
	for owner, n := range c.Rivals {
		rivals[owner] = n
	}
	c.Rivals = rivals
	var plan []Action
	for i := range pods {
		pod := &pods[i]
		if !c.concerns(pod) {
			continue
		}
		a := c.decide(pod, now)
		a.Pod = pod
		if a.Do == Begin {
			c.Rivals[ownerOf(pod)]++
		}
		plan = append(plan, a)
	}
	return plan
}

// before puts pods in the order in which they are asked for; the agent saves them in an order of its own.
func (c *Case) before(a, b corev1.Pod) int {
	if len(c.Only) > 0 {
		return cmp.Compare(slices.Index(c.Only, a.UID), slices.Index(c.Only, b.UID))
	}
	return cmp.Or(cmp.Compare(wish.Value(&b), wish.Value(&a)), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// concerns tells whether the pod is to leave the node by our doing: it was opted in, wants it, and its controller makes another one.
func (c *Case) concerns(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOfNoCopy(pod)
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return pod.Spec.NodeName == c.Node && pod.Labels[v1alpha1.LabelEnabled] == "true" && inject.Enabled(pod) && !removal.Over(pod) &&
		!mirror && owner != nil && owner.Kind != "DaemonSet" && owner.Kind != "Node" &&
		wish.Triggered(pod, c.Trigger) && (len(c.Only) == 0 || slices.Contains(c.Only, pod.UID))
}

func ownerOf(pod *corev1.Pod) types.UID {
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		return owner.UID
	}
	return pod.UID
}

// decide goes on with the pod's latest attempt that keeps it frozen, whoever asked for it, or begins one.
func (c *Case) decide(pod *corev1.Pod, now time.Time) Action {
	all := c.Checkpoints[pod.UID]
	cur := latest(all)
	switch {
	case cur == nil, cur.Status.Phase.Final() && lastChange(cur).Before(c.Since):
		// What came to nothing before the notice says nothing about now.
		return c.begin(pod, all, now)
	case cur.Status.Phase == "" && !now.Before(cur.CreationTimestamp.Add(pickup)):
		return Action{Do: GiveUp, Checkpoint: cur, Cold: fmt.Sprintf("the agent of the node %q did not answer within %s", c.Node, pickup)}
	case cur.Status.Phase == "":
		return Action{Do: Wait, After: cur.CreationTimestamp.Add(pickup).Sub(now)}
	case cur.Status.Phase == v1alpha1.PhaseReleased, cur.Status.Phase == v1alpha1.PhaseExpired:
		if step := removal.Next(cur, pod, now); step.Remove {
			return c.remove(cur, step)
		}
		if n := c.attempts(all); n >= maxAttempts {
			return Action{Do: Remove, Checkpoint: cur, Cold: fmt.Sprintf("the pod was not ended in time after any of %d checkpoints", n)}
		}
		return c.begin(pod, all, now)
	}
	step := removal.Next(cur, pod, now)
	if step.Remove {
		return c.remove(cur, step)
	}
	return Action{Do: Wait, After: step.After}
}

// remove ends the pod, unless the attempt says itself that its pod is ended: then another controller does.
func (c *Case) remove(cur *v1alpha1.PodCheckpoint, step removal.Step) Action {
	if match.RemovalOf(cur) != v1alpha1.RemovalNone {
		return Action{Do: Wait}
	}
	return Action{Do: Remove, Checkpoint: cur, Cold: step.Cold}
}

// begin decides where there is no attempt to go on with.
func (c *Case) begin(pod *corev1.Pod, all []v1alpha1.PodCheckpoint, now time.Time) Action {
	half := c.Since.Add(c.Deadline.Sub(c.Since) / 2)
	if restoring(pod) && !match.AnyRunning(pod) && now.Before(half) {
		// What it starts from would be lost with it. It can be saved as soon as it runs.
		return Action{Do: Wait, After: half.Sub(now)}
	}
	if c.Removal == v1alpha1.RemovalEvict {
		full := budget.CrowdedOut(pod, c.Budgets, c.Rivals[ownerOf(pod)])
		if full != "" || budget.Refuses(pod, c.Budgets) {
			return Action{Do: Wait, After: removal.RefusedPause}
		}
	}
	if why := match.NotNow(pod, c.Profile); why != "" {
		return Action{Do: Remove, Cold: why}
	}
	deadline := c.Deadline.Add(-c.Lead)
	if own := now.Add(wish.Deadline(pod)); own.Before(deadline) {
		deadline = own
	}
	if left := deadline.Sub(now); left < leastTime {
		return Action{Do: Remove, Cold: fmt.Sprintf("the node ends at %s, too soon to begin", c.Deadline.UTC().Format(time.RFC3339))}
	}
	attempt := 1
	for i := range all {
		attempt = max(attempt, match.Attempt(all[i].Name)+1)
	}
	return Action{Do: Begin, Request: match.Request{
		Attempt: attempt, Reason: c.Reason, Deadline: deadline, Fence: true, Removal: c.Removal,
	}}
}

// attempts is how many attempts were made since the notice.
func (c *Case) attempts(all []v1alpha1.PodCheckpoint) int {
	n := 0
	for i := range all {
		// Creation times are whole seconds.
		if all[i].Spec.Fence && !all[i].CreationTimestamp.Time.Before(c.Since.Truncate(time.Second)) {
			n++
		}
	}
	return n
}

// latest is the last attempt that keeps its pod frozen, as only such a one may lead to the pod's end.
func latest(all []v1alpha1.PodCheckpoint) *v1alpha1.PodCheckpoint {
	var cur *v1alpha1.PodCheckpoint
	for i := range all {
		if pc := &all[i]; pc.Spec.Fence && (cur == nil || match.Attempt(pc.Name) > match.Attempt(cur.Name)) {
			cur = pc
		}
	}
	return cur
}

func lastChange(pc *v1alpha1.PodCheckpoint) time.Time {
	if n := len(pc.Status.Timings); n > 0 {
		return pc.Status.Timings[n-1].Time.Time
	}
	return pc.CreationTimestamp.Time
}

// restoring tells whether the pod is to start from a checkpoint and has not been sent back to its base images.
func restoring(pod *corev1.Pod) bool {
	return pod.Annotations[v1alpha1.AnnotationRestoreFrom] != "" && pod.Annotations[v1alpha1.AnnotationFellBack] == ""
}
