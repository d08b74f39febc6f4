// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// overQuota tells whether the API server is going to refuse the pod for want of quota, which it looks at after all webhooks. A pod that
// is being deleted counts as long as its grace period lasts, so in a namespace that is full every replacement is refused at first. Its
// claim would hold the checkpoint for a pod that never comes, and the one that is let in a moment later would start cold.
func (h *PodCreate) overQuota(ctx context.Context, pod *corev1.Pod) (bool, error) {
	var quotas corev1.ResourceQuotaList
	if err := h.Live.List(ctx, &quotas, client.InNamespace(pod.Namespace)); err != nil {
		return false, fmt.Errorf("listing the ResourceQuotas of namespace %q: %w", pod.Namespace, err)
	}
	for i := range quotas.Items {
		if exceeds(pod, &quotas.Items[i]) {
			return true, nil
		}
	}
	return false, nil
}

// exceeds looks at pods, CPU and memory. A quota with scopes may not be about this pod, and is passed over: taking a pod for refused that is
// let in would cost it its checkpoint.
func exceeds(pod *corev1.Pod, quota *corev1.ResourceQuota) bool {
	if len(quota.Spec.Scopes) > 0 || quota.Spec.ScopeSelector != nil {
		return false
	}
	one := *resource.NewQuantity(1, resource.DecimalSI)
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
	for name, want := range map[corev1.ResourceName]resource.Quantity{
		corev1.ResourcePods: one, "count/pods": one,
		corev1.ResourceCPU: requests[corev1.ResourceCPU], corev1.ResourceRequestsCPU: requests[corev1.ResourceCPU],
		corev1.ResourceMemory: requests[corev1.ResourceMemory], corev1.ResourceRequestsMemory: requests[corev1.ResourceMemory],
		corev1.ResourceLimitsCPU: limits[corev1.ResourceCPU], corev1.ResourceLimitsMemory: limits[corev1.ResourceMemory],
	} {
		hard, bounded := quota.Status.Hard[name]
		if !bounded || want.IsZero() {
			continue
		}
		used := quota.Status.Used[name].DeepCopy()
		used.Add(want)
		if used.Cmp(hard) > 0 {
			return true
		}
	}
	return false
}
