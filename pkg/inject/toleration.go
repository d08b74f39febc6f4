// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/termination"
)

// addTolerations lets the pod stay under taints that announce a node's end where their effect is NoExecute: for three quarters of the
// notice, long enough for a checkpoint, short enough for the pod to stop before the node does. What the owner wrote about a taint stays.
func addTolerations(pod *corev1.Pod, taints termination.List) {
	if taints == nil {
		taints = termination.Defaults()
	}
	for _, t := range taints {
		// Nothing adds that taint with NoExecute.
		if t.Key == corev1.TaintNodeUnschedulable ||
			slices.ContainsFunc(pod.Spec.Tolerations, func(have corev1.Toleration) bool { return covers(have, t.Key) }) {
			continue
		}
		seconds := int64(t.Notice * 3 / 4 / time.Second)
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key: t.Key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
		})
	}
}

// covers tells whether the owner already says something about the taint's NoExecute effect, be it for one value only.
func covers(t corev1.Toleration, key string) bool {
	return (t.Key == key || t.Key == "") && (t.Effect == "" || t.Effect == corev1.TaintEffectNoExecute)
}
