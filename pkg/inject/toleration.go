// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// termination are the taints that announce a node's end, each with the seconds that a pod may stay under it when its effect is
// NoExecute: long enough for a checkpoint, short enough for the pod to stop before the node does. The clouds give 120 s (AWS) or
// 30 s (GKE, AKS).
var termination = []struct {
	key     string
	seconds int64
}{
	{"aws-node-termination-handler/spot-itn", 90},
	{"aws-node-termination-handler/scheduled-maintenance", 90},
	{"aws-node-termination-handler/asg-lifecycle-termination", 90},
	{"aws-node-termination-handler/rebalance-recommendation", 90},
	{"cloud.google.com/impending-node-termination", 15},
	{"karpenter.sh/disrupted", 90},
	{"karpenter.sh/disruption", 90},
	{"ToBeDeletedByClusterAutoscaler", 90},
	{"node.cloudprovider.kubernetes.io/shutdown", 15},
	{"remediator.kubernetes.azure.com/unschedulable", 15},
}

func addTolerations(pod *corev1.Pod) {
	for _, t := range termination {
		if slices.ContainsFunc(pod.Spec.Tolerations, func(have corev1.Toleration) bool { return covers(have, t.key) }) {
			continue
		}
		seconds := t.seconds
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key: t.key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
		})
	}
}

// covers tells whether the owner already says something about the taint's NoExecute effect, be it for one value only.
func covers(t corev1.Toleration, key string) bool {
	return (t.Key == key || t.Key == "") && (t.Effect == "" || t.Effect == corev1.TaintEffectNoExecute)
}
