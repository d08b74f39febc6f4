// SPDX-License-Identifier: Apache-2.0

// Package judge tells from a pod, as the API server has made it, whether the webhook answered about it, and whether rightly.
package judge

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Verdict is what became of a pod.
type Verdict string

// The verdicts.
const (
	// Right: everything that belongs to an opted-in pod is there, or nothing of it in another pod.
	Right Verdict = "right"
	// PassedOver: an opted-in pod as its user sent it.
	PassedOver Verdict = "passed over"
	// Half: some of what belongs to an opted-in pod, or to one that restores, is there, and some is not.
	Half Verdict = "half"
	// Unasked: something is there that the pod was not opted in for.
	Unasked Verdict = "unasked"
)

// Marks are what the webhook leaves in an opted-in pod that sets nothing itself, by what they are.
func Marks(pod *corev1.Pod) map[string]bool {
	marks := map[string]bool{
		"label":     pod.Labels[v1alpha1.LabelEnabled] == "true",
		"hash":      pod.Annotations[v1alpha1.AnnotationTemplateHash] != "",
		"scheduler": pod.Spec.SchedulerName == v1alpha1.SchedulerName,
		"seccomp":   pod.Spec.SecurityContext != nil && pod.Spec.SecurityContext.SeccompProfile != nil,
	}
	for _, c := range pod.Spec.Containers {
		set := map[string]bool{}
		for _, env := range c.Env {
			set[env.Name] = true
		}
		marks["environment of "+c.Name] = set["GODEBUG"] && set["UV_USE_IO_URING"]
	}
	for _, t := range pod.Spec.Tolerations {
		if strings.HasPrefix(t.Key, "aws-node-termination-handler/") {
			marks["tolerations"] = true
		}
	}
	return marks
}

// restoring are the marks of a pod that starts from a checkpoint.
func restoring(pod *corev1.Pod) (some, all bool) {
	claim, from := pod.Annotations[v1alpha1.AnnotationClaim] != "", pod.Annotations[v1alpha1.AnnotationRestoreFrom] != ""
	label, base := pod.Labels[v1alpha1.LabelRestoring] != "", pod.Annotations[v1alpha1.AnnotationBaseImages] != ""
	return claim || from || label || base, claim && from && label && base
}

// Pod judges one. The scheduler has to be taken for running.
func Pod(pod *corev1.Pod, optedIn bool) Verdict {
	marks := Marks(pod)
	n, want := 0, len(pod.Spec.Containers)+5
	for _, there := range marks {
		if there {
			n++
		}
	}
	some, all := restoring(pod)
	switch {
	case !optedIn && n == 0 && !some:
		return Right
	case !optedIn:
		return Unasked
	case n == 0 && !some:
		return PassedOver
	case n < want || some && !all:
		return Half
	}
	return Right
}
