// SPDX-License-Identifier: Apache-2.0

// Package inject holds the changes that Cryopod makes to pods: opting in, restoring from a checkpoint, and falling back to a
// cold start. Each is pure, leaves the pod that it is given alone, and applied twice gives what it gives applied once.
package inject

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/termination"
)

// Options is what OptIn can't see in the pod.
type Options struct {
	// TemplateHash is match.TemplateHash of the pod.
	TemplateHash string
	// Creator is the user that makes the pod; empty where that is not known.
	Creator string
	// Scheduler is whether Cryopod's scheduler runs. Without it the pod keeps its scheduler: it must not wait for one that is
	// not there.
	Scheduler bool
	// Taints are those that announce a node's end; nil is termination.Defaults.
	Taints termination.List
}

// Enabled tells whether the pod's owner has opted it in.
func Enabled(pod *corev1.Pod) bool {
	return pod.Annotations[v1alpha1.AnnotationEnabled] == "true"
}

// OptIn prepares an opted-in pod for being checkpointed: the label, the template hash and the creator that others look for, the scheduler,
// time to be saved before a termination taint takes effect, and, unless AnnotationInject is "false", an environment and a seccomp
// profile that keep its processes to what CRIU can save. What the owner wrote stays: each thing is set only where nothing is.
func OptIn(pod *corev1.Pod, o Options) *corev1.Pod {
	out := pod.DeepCopy()
	setLabel(out, v1alpha1.LabelEnabled, "true")
	setAnnotation(out, v1alpha1.AnnotationTemplateHash, o.TemplateHash)
	if o.Creator != "" {
		setAnnotation(out, v1alpha1.AnnotationCreator, o.Creator)
	}
	if s := out.Spec.SchedulerName; o.Scheduler && out.Spec.NodeName == "" && (s == "" || s == corev1.DefaultSchedulerName) {
		out.Spec.SchedulerName = v1alpha1.SchedulerName
	}
	addTolerations(out, o.Taints)
	if out.Annotations[v1alpha1.AnnotationInject] == "false" {
		return out
	}
	eachContainer(out, addEnv)
	addSeccomp(out)
	return out
}

// Strip removes every key of Cryopod's own from the pod, as a user may have written it. What users may write stays.
func Strip(pod *corev1.Pod) *corev1.Pod {
	out := pod.DeepCopy()
	for _, key := range []string{
		v1alpha1.AnnotationRestoreFrom, v1alpha1.AnnotationClaim, v1alpha1.AnnotationTemplateHash,
		v1alpha1.AnnotationBaseImages, v1alpha1.AnnotationFellBack, v1alpha1.AnnotationCreator,
	} {
		delete(out.Annotations, key)
	}
	delete(out.Labels, v1alpha1.LabelEnabled)
	delete(out.Labels, v1alpha1.LabelRestoring)
	return out
}

func eachContainer(pod *corev1.Pod, do func(*corev1.Container)) {
	for i := range pod.Spec.InitContainers {
		do(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		do(&pod.Spec.Containers[i])
	}
}

func setLabel(pod *corev1.Pod, key, value string) {
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[key] = value
}

func setAnnotation(pod *corev1.Pod, key, value string) {
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[key] = value
}
