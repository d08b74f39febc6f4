// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// maxResponders is the API's limit.
const maxResponders = 10

// Respond names Cryopod among the pod's eviction responders (KEP-4563), unless it is named there, the list is full, or the pod is one of a
// group, which can't have any.
func Respond(pod *corev1.Pod) *corev1.Pod {
	out := pod.DeepCopy()
	all := out.Spec.EvictionResponders
	named := slices.ContainsFunc(all, func(r corev1.EvictionResponder) bool { return r.Name == v1alpha1.EvictionResponder })
	if named || len(all) >= maxResponders || out.Spec.SchedulingGroup != nil {
		return out
	}
	out.Spec.EvictionResponders = append(all, corev1.EvictionResponder{
		Name: v1alpha1.EvictionResponder, Priority: ptr.To[int32](v1alpha1.EvictionResponderPriority),
	})
	return out
}
