// SPDX-License-Identifier: Apache-2.0

// Package budget tells in advance what the API server says about evictions that a PodDisruptionBudget covers. All of it is pure.
package budget

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// maxDisrupted is how many evictions the API server lets run under one budget before its controller has seen any of them.
const maxDisrupted = 2000

// Refuses tells whether the API server will refuse to evict the running pod whatever anybody else says: then it
// must not be frozen for nothing. It follows the checks of Kubernetes 1.37, pkg/registry/core/pod/storage/eviction.go.
func Refuses(pod *corev1.Pod, budgets []policyv1.PodDisruptionBudget) bool {
	match := Matching(pod, budgets)
	switch len(match) {
	case 0:
		return false
	case 1:
	default:
		return true
	}
	b := match[0]
	if !isReady(pod) {
		policy := b.Spec.UnhealthyPodEvictionPolicy
		if policy != nil && *policy == policyv1.AlwaysAllow {
			return false
		}
		if b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0 {
			return false
		}
	}
	return b.Status.ObservedGeneration < b.Generation || b.Status.DisruptionsAllowed <= 0 ||
		len(b.Status.DisruptedPods) > maxDisrupted
}

// CrowdedOut names the budget that would refuse to evict the pod once the rivals are evicted too, pods that are being saved now and of
// which it does not know yet. It is empty when there is none. A budget is to keep pods running: the pod must not be frozen beside them.
func CrowdedOut(pod *corev1.Pod, budgets []policyv1.PodDisruptionBudget, rivals int) string {
	match := Matching(pod, budgets)
	if len(match) != 1 || !isReady(pod) || rivals < int(match[0].Status.DisruptionsAllowed) {
		return ""
	}
	return match[0].Name
}

// Matching are the budgets that cover the pod. The API server evicts no pod that more than one covers.
func Matching(pod *corev1.Pod, budgets []policyv1.PodDisruptionBudget) []*policyv1.PodDisruptionBudget {
	var match []*policyv1.PodDisruptionBudget
	for i := range budgets {
		selector, err := metav1.LabelSelectorAsSelector(budgets[i].Spec.Selector)
		if err == nil && budgets[i].Namespace == pod.Namespace && selector.Matches(labels.Set(pod.Labels)) {
			match = append(match, &budgets[i])
		}
	}
	return match
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
