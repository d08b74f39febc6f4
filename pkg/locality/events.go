// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// statusTimeout bounds the one write that giving a pod up takes.
const statusTimeout = 5 * time.Second

// giveUp tells the controllers, by a condition of the pod, to send it back to its base images, and people why.
func (p *Plugin) giveUp(pod *corev1.Pod, why string) {
	p.handle.EventRecorder().Eventf(pod, nil, corev1.EventTypeWarning, "RestoreNotPlaced", "Scheduling",
		"Not placed to be restored (%s); it may go to any node and starts cold", why)
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	// Marshalling plain strings has no way to fail.
	patch, _ := json.Marshal(map[string]any{
		// The pod of that name may be another by now.
		"metadata": map[string]any{"uid": pod.UID},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: v1alpha1.PodConditionRestorePlaced, Status: corev1.ConditionFalse, Reason: v1alpha1.ReasonNotPlaced, Message: why,
			LastTransitionTime: metav1.NewTime(p.waiting.clock.Now()),
		}}},
	})
	_, err := p.handle.ClientSet().CoreV1().Pods(pod.Namespace).
		Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		klog.Background().WithValues("plugin", Name).
			Error(err, "Noting on a pod that it can't be placed to be restored; it may start on a node that can't", "pod", klog.KObj(pod))
	}
}
