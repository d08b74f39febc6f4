// SPDX-License-Identifier: Apache-2.0

package match

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Never says why the pod can't be checkpointed whatever becomes of it, empty when nothing is in the way. It looks at nothing
// that is not there at CREATE.
func Never(pod *corev1.Pod) string {
	owner := metav1.GetControllerOfNoCopy(pod)
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	switch {
	case mirror || owner != nil && owner.Kind == "Node":
		return "it is a static pod"
	case owner != nil && owner.Kind == "DaemonSet":
		return "it belongs to a DaemonSet, whose pods stay with their nodes"
	case pod.Spec.HostNetwork:
		return "it uses the host's network"
	case pod.Spec.HostPID:
		return "it uses the host's processes (hostPID)"
	case pod.Spec.HostIPC:
		return "it uses the host's IPC"
	case pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows:
		return "it is a Windows pod"
	}
	return ""
}

// NotNow says why the running pod can't be checkpointed for a replacement now, empty when nothing is in the way. The profile
// is that of the pod's node, nil when there is none.
func NotNow(pod *corev1.Pod, profile *v1alpha1.NodeProfile) string {
	if why := Never(pod); why != "" {
		return why
	}
	switch {
	case metav1.GetControllerOfNoCopy(pod) == nil:
		return "it has no controller that would replace it"
	case !AnyRunning(pod):
		return "none of its containers runs"
	case profile == nil:
		return fmt.Sprintf("the node %q has no Cryopod agent", pod.Spec.NodeName)
	}
	c := meta.FindStatusCondition(profile.Status.Conditions, v1alpha1.ConditionCanCheckpoint)
	switch {
	case c == nil:
		return fmt.Sprintf("the agent of the node %q has not told yet whether it can", pod.Spec.NodeName)
	case c.Status != metav1.ConditionTrue:
		return fmt.Sprintf("the node %q can't: %s", pod.Spec.NodeName, c.Message)
	}
	return ""
}

// AnyRunning tells whether one of the pod's containers, other than init containers, runs.
func AnyRunning(pod *corev1.Pod) bool {
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].State.Running != nil {
			return true
		}
	}
	return false
}
