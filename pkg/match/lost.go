// SPDX-License-Identifier: Apache-2.0

package match

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// reasonPodGC is the reason of the condition DisruptionTarget that Kubernetes's collector of orphaned pods writes once it has seen, twice and
// 40 s apart, that the pod's node exists no more (k8s.io/kubernetes pkg/controller/podgc).
const reasonPodGC = "DeletionByPodGC"

// Lost tells whether it is certain that the pod, whose containers ran when they were last heard of, went with its node and runs nowhere any
// more, and how that is known. The pod is as it is, or was last, and the node as it is, nil when there is none of that name.
//
// Two things make it certain. Kubernetes collected the pod because its node's object is gone; that is written on the pod. Or an
// administrator has marked the node as out of service, which says that the machine is off, while its kubelet is not heard of, and the pod is
// being deleted: Kubernetes then removes it without a word from the node, too. A node that merely can't be reached may be running its pods.
func Lost(pod *corev1.Pod, node *corev1.Node) (lost bool, why string) {
	switch {
	case !hadRunning(pod):
		return false, ""
	case collected(pod):
		return true, fmt.Sprintf("its node %q is gone, and Kubernetes collected the pod", pod.Spec.NodeName)
	case pod.DeletionTimestamp != nil && node != nil && OutOfService(node) && !Heard(node):
		return true, fmt.Sprintf("its node %q is marked as out of service", pod.Spec.NodeName)
	}
	return false, ""
}

func collected(pod *corev1.Pod) bool {
	c := disruption(pod)
	return pod.Status.Phase == corev1.PodFailed && c != nil && c.Reason == reasonPodGC
}

// OutOfService tells whether an administrator has said that the node's machine is off.
func OutOfService(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// Heard tells whether the node's kubelet is heard of: its condition Ready is True or False, and not Unknown.
func Heard(node *corev1.Node) bool {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status != corev1.ConditionUnknown
		}
	}
	return false
}

// Suspect tells whether pods of the node may be lost, as far as its taints tell: it is gone (nil), out of service, not ready or unreachable.
// Kubernetes keeps these taints in step with the condition Ready.
func Suspect(node *corev1.Node) bool {
	return node == nil || slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == corev1.TaintNodeOutOfService || t.Key == corev1.TaintNodeUnreachable || t.Key == corev1.TaintNodeNotReady
	})
}

// StandIn is a pod that its controller may have made in place of the source since that began to go, and which did not start from a
// checkpoint: same controller and slot, and made no earlier. Nil when there is none among the pods. While there is one, a later pod that
// started from a checkpoint of the source would be one too many with its memory.
func StandIn(pods []corev1.Pod, source *corev1.Pod) *corev1.Pod {
	owner, since := OwnerOf(source), beganToGo(source)
	if owner == nil {
		return nil
	}
	for i := range pods {
		p := &pods[i]
		o := OwnerOf(p)
		if p.Namespace == source.Namespace && p.UID != source.UID && o != nil && *o == *owner &&
			!p.CreationTimestamp.Time.Before(since) && p.Annotations[v1alpha1.AnnotationRestoreFrom] == "" {
			return p
		}
	}
	return nil
}

// beganToGo is when the pod's controller began to look for another pod: with the pod's deletion, or its failure. To the second, as
// Kubernetes keeps it.
func beganToGo(pod *corev1.Pod) time.Time {
	if at := pod.DeletionTimestamp; at != nil {
		grace := time.Duration(0)
		if s := pod.DeletionGracePeriodSeconds; s != nil {
			grace = time.Duration(*s) * time.Second
		}
		return at.Add(-grace)
	}
	if c := disruption(pod); c != nil {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

func disruption(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// hadRunning tells whether a container of the pod ran when its kubelet last told. The collector writes the pod's phase only.
func hadRunning(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses),
		func(s corev1.ContainerStatus) bool { return s.State.Running != nil })
}

// Age is how old the memory in a checkpoint is at that time, to the second: since its pod was frozen for it. Clocks differ; it is never
// negative.
func Age(pc *v1alpha1.PodCheckpoint, now time.Time) time.Duration {
	return max(now.Sub(cut(pc)).Round(time.Second), 0)
}

func cut(pc *v1alpha1.PodCheckpoint) time.Time {
	for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseFreezing, v1alpha1.PhaseReady} {
		if at, ok := pc.Status.Entered(phase); ok {
			return at
		}
	}
	return pc.CreationTimestamp.Time
}
