// SPDX-License-Identifier: Apache-2.0

package object

import corev1 "k8s.io/api/core/v1"

// TaintReserved keeps pods off a node, NoSchedule, but for those of Reserved. Its value is the node's name.
const TaintReserved = "e2e.example.com/reserved"

// Reserved has a pod start on a node that is kept by TaintReserved, as long as nothing else speaks against that node: a replacement
// goes elsewhere when the node is tainted, full or gone.
func Reserved(t corev1.PodTemplateSpec, node string) corev1.PodTemplateSpec {
	t.Spec.Tolerations = append(t.Spec.Tolerations, Tolerate(node))
	t.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
			Weight: 100,
			Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{
				Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
			}}},
		}},
	}}
	return t
}

// ReservedOnly has a pod run on nodes that are kept by TaintReserved, and nowhere else.
func ReservedOnly(t corev1.PodTemplateSpec, nodes ...string) corev1.PodTemplateSpec {
	for _, node := range nodes {
		t.Spec.Tolerations = append(t.Spec.Tolerations, Tolerate(node))
	}
	t.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: nodes}},
		}}},
	}}
	return t
}

// Tolerate lets a pod onto the node that is kept by TaintReserved.
func Tolerate(node string) corev1.Toleration {
	return corev1.Toleration{Key: TaintReserved, Value: node, Effect: corev1.TaintEffectNoSchedule}
}
