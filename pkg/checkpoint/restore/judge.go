// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// Action is what is to be done about a pod that was admitted to start from a checkpoint.
type Action int

// The actions, in the order of a restore that fails.
const (
	// Nothing is to be done now.
	Nothing Action = iota
	// FallBack gives the pod its base images back.
	FallBack
	// WriteFailed notes in the PodCheckpoint that the pod fell back.
	WriteFailed
	// WriteRestored notes in the PodCheckpoint that every container runs from it.
	WriteRestored
)

// Verdict is an action with its reason.
type Verdict struct {
	Action Action
	// Containers are the ones to fall back, by name.
	Containers []string
	// Class is the class of the failure, for the metric.
	Class metrics.FallbackClass
	// Why is the reason for people.
	Why string
}

// relation is what a pod and the PodCheckpoint that it names are to each other.
type relation int

const (
	// missing: there is no such PodCheckpoint.
	missing relation = iota
	// foreign: the PodCheckpoint belongs to another pod, or to none.
	foreign
	// restoring: the PodCheckpoint is Claimed by the pod.
	restoring
	// over: the PodCheckpoint was the pod's, and nothing follows in its life.
	over
)

// Judge decides about a pod, given the PodCheckpoint that it names, nil when there is none. The steps are ordered; the first that
// applies counts.
//
// A pod falls back as a whole while it is being restored, since its containers are one cut. After that, a container that ends
// starts cold by itself, and the others run on.
func Judge(pod *corev1.Pod, pc *v1alpha1.PodCheckpoint) Verdict {
	if pod.Annotations[v1alpha1.AnnotationRestoreFrom] == "" || !pod.DeletionTimestamp.IsZero() {
		return Verdict{}
	}
	rel := relate(pod, pc)
	if why, done := pod.Annotations[v1alpha1.AnnotationFellBack]; done && rel == restoring {
		return Verdict{Action: WriteFailed, Why: why}
	}
	left := swapped(pod)
	if len(left) == 0 || ended(pod) && rel != restoring {
		return Verdict{}
	}
	from := pod.Annotations[v1alpha1.AnnotationRestoreFrom]
	switch {
	case rel == foreign:
		return Verdict{Action: FallBack, Containers: names(left), Class: metrics.FallbackClaim,
			Why: fmt.Sprintf("PodCheckpoint %q is not claimed by this pod", from)}
	case rel == missing && !started(left):
		return Verdict{Action: FallBack, Containers: names(left), Class: metrics.FallbackClaim,
			Why: fmt.Sprintf("PodCheckpoint %q is gone", from)}
	case rel == restoring:
		return judgeRestore(pod, left)
	}
	return judgeRestored(left)
}

func judgeRestore(pod *corev1.Pod, left []container) Verdict {
	if why, not := notPlaced(pod); not {
		return Verdict{Action: FallBack, Containers: names(left), Class: metrics.FallbackPlacement, Why: why}
	}
	for i := range left {
		c := &left[i]
		if c.problem == nil {
			continue
		}
		why := fmt.Sprintf("container %q: %s", c.name, c.problem.text)
		if ended(pod) {
			// No image matters to it any more: its owner replaces it, by a pod that starts cold.
			return Verdict{Action: WriteFailed, Why: why}
		}
		return Verdict{Action: FallBack, Containers: names(left), Class: c.problem.class, Why: why}
	}
	if allRan(left) {
		return Verdict{Action: WriteRestored}
	}
	return Verdict{}
}

// notPlaced tells whether the scheduler has given up to find a node that can restore the pod, and none has it yet: one that got it all
// the same is left to try.
func notPlaced(pod *corev1.Pod) (why string, not bool) {
	if pod.Spec.NodeName != "" {
		return "", false
	}
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == v1alpha1.PodConditionRestorePlaced && c.Status == corev1.ConditionFalse {
			return cmp.Or(c.Message, "no node can restore it"), true
		}
	}
	return "", false
}

func judgeRestored(left []container) Verdict {
	v := Verdict{Action: FallBack, Class: metrics.FallbackCrash}
	for i := range left {
		c := &left[i]
		if !c.rewinds() {
			continue
		}
		v.Containers = append(v.Containers, c.name)
		if v.Why == "" {
			v.Why = fmt.Sprintf("container %q: %s after its restore", c.name, textOf(c))
		}
	}
	if len(v.Containers) == 0 {
		return Verdict{}
	}
	return v
}

func textOf(c *container) string {
	if c.problem != nil {
		return c.problem.text
	}
	return "it ended with exit code 0"
}

func relate(pod *corev1.Pod, pc *v1alpha1.PodCheckpoint) relation {
	if pc == nil {
		return missing
	}
	switch {
	case !match.Holds(pod, pc.Status.Claim):
		return foreign
	case pc.Status.Phase == v1alpha1.PhaseClaimed:
		return restoring
	case pc.Status.Phase.Final():
		return over
	}
	return foreign
}

// ended tells whether the pod as a whole has come to its end: the kubelet starts nothing in it any more.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// started tells whether any of the containers has ever run.
func started(cs []container) bool {
	for i := range cs {
		if s := cs[i].status; s != nil && (s.RestartCount > 0 || s.State.Running != nil || s.State.Terminated != nil) {
			return true
		}
	}
	return false
}

func allRan(cs []container) bool {
	for i := range cs {
		if !cs[i].ran() {
			return false
		}
	}
	return true
}

func names(cs []container) []string {
	out := make([]string, 0, len(cs))
	for i := range cs {
		out = append(out, cs[i].name)
	}
	return out
}
