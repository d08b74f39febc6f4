// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/metrics"
)

func TestDecideBudgets(t *testing.T) {
	always := func(b *policyv1.PodDisruptionBudget) {
		b.Spec.UnhealthyPodEvictionPolicy = ptr.To(policyv1.AlwaysAllow)
	}
	healthy := func(b *policyv1.PodDisruptionBudget) {
		b.Spec.UnhealthyPodEvictionPolicy = ptr.To(policyv1.IfHealthyBudget)
	}
	unready := func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
	ready := func(*corev1.Pod) {}
	tests := map[string]struct {
		pod     func(*corev1.Pod)
		budgets []policyv1.PodDisruptionBudget
		refused bool
	}{
		"none":      {pod: ready},
		"allows":    {pod: ready, budgets: []policyv1.PodDisruptionBudget{budget(1, 3, 2)}},
		"exhausted": {pod: ready, budgets: []policyv1.PodDisruptionBudget{budget(0, 2, 2)}, refused: true},
		"negative":  {pod: ready, budgets: []policyv1.PodDisruptionBudget{budget(-1, 2, 2)}, refused: true},
		"more than one": {
			pod: ready, budgets: []policyv1.PodDisruptionBudget{budget(1, 3, 2), budget(1, 3, 2)}, refused: true,
		},
		"of another namespace": {pod: ready, budgets: []policyv1.PodDisruptionBudget{
			budget(0, 2, 2, func(b *policyv1.PodDisruptionBudget) { b.Namespace = "other" }),
		}},
		"of other pods": {pod: ready, budgets: []policyv1.PodDisruptionBudget{
			budget(0, 2, 2, func(b *policyv1.PodDisruptionBudget) { b.Spec.Selector.MatchLabels["app"] = "x" }),
		}},
		"without a selector": {pod: ready, budgets: []policyv1.PodDisruptionBudget{
			budget(0, 2, 2, func(b *policyv1.PodDisruptionBudget) { b.Spec.Selector = nil }),
		}},
		"with an empty selector": {pod: ready, refused: true, budgets: []policyv1.PodDisruptionBudget{
			budget(0, 2, 2, func(b *policyv1.PodDisruptionBudget) { b.Spec.Selector = &metav1.LabelSelector{} }),
		}},
		"with a selector that is none": {pod: ready, budgets: []policyv1.PodDisruptionBudget{
			budget(0, 2, 2, func(b *policyv1.PodDisruptionBudget) {
				b.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Sometimes"}}
			}),
		}},
		"not yet observed": {pod: ready, refused: true, budgets: []policyv1.PodDisruptionBudget{
			budget(1, 3, 2, func(b *policyv1.PodDisruptionBudget) { b.Generation = 2 }),
		}},
		"too many under way": {pod: ready, refused: true, budgets: []policyv1.PodDisruptionBudget{
			budget(1, 3, 2, func(b *policyv1.PodDisruptionBudget) { b.Status.DisruptedPods = disrupted(2001) }),
		}},
		"as many under way as may be": {pod: ready, budgets: []policyv1.PodDisruptionBudget{
			budget(1, 3, 2, func(b *policyv1.PodDisruptionBudget) { b.Status.DisruptedPods = disrupted(2000) }),
		}},
		"unready, enough others":             {pod: unready, budgets: []policyv1.PodDisruptionBudget{budget(0, 2, 2)}},
		"unready, enough others, spelt out":  {pod: unready, budgets: []policyv1.PodDisruptionBudget{budget(0, 2, 2, healthy)}},
		"unready, too few others":            {pod: unready, budgets: []policyv1.PodDisruptionBudget{budget(0, 1, 2)}, refused: true},
		"unready, none desired":              {pod: unready, budgets: []policyv1.PodDisruptionBudget{budget(0, 0, 0)}, refused: true},
		"unready, always allowed":            {pod: unready, budgets: []policyv1.PodDisruptionBudget{budget(0, 1, 2, always)}},
		"ready, always allowed for others":   {pod: ready, budgets: []policyv1.PodDisruptionBudget{budget(0, 1, 2, always)}, refused: true},
		"unready, two budgets always refuse": {pod: unready, budgets: []policyv1.PodDisruptionBudget{budget(1, 3, 2, always), budget(1, 3, 2, always)}, refused: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d := admission.Decide(admission.Case{Trigger: v1alpha1.TriggerEviction,
				Pod: running(tc.pod), Profile: canCheckpoint(), Budgets: tc.budgets, Now: now, MaxAttempts: 3,
			})
			if got := d.Outcome == metrics.EvictionBudget; got != tc.refused {
				t.Errorf("Decide = %+v, want refused by the budget: %t", d, tc.refused)
			}
		})
	}
}

func disrupted(n int) map[string]metav1.Time {
	out := map[string]metav1.Time{}
	for i := range n {
		out[time.Duration(i).String()] = metav1.Time{}
	}
	return out
}

func TestDecideNotCheckpointable(t *testing.T) {
	condition := func(status metav1.ConditionStatus, message string) *v1alpha1.NodeProfile {
		p := canCheckpoint()
		p.Status.Conditions[0].Status, p.Status.Conditions[0].Message = status, message
		return p
	}
	tests := map[string]struct {
		pod     func(*corev1.Pod)
		profile *v1alpha1.NodeProfile
		why     string
	}{
		"static": {
			pod: annotate(corev1.MirrorPodAnnotationKey, "x"), profile: canCheckpoint(), why: "it is a static pod",
		},
		"owned by a node": {
			pod: func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "Node" }, profile: canCheckpoint(), why: "it is a static pod",
		},
		"network of the host": {
			pod: func(p *corev1.Pod) { p.Spec.HostNetwork = true }, profile: canCheckpoint(), why: "it uses the host's network",
		},
		"processes of the host": {
			pod: func(p *corev1.Pod) { p.Spec.HostPID = true }, profile: canCheckpoint(), why: "it uses the host's processes (hostPID)",
		},
		"IPC of the host": {
			pod: func(p *corev1.Pod) { p.Spec.HostIPC = true }, profile: canCheckpoint(), why: "it uses the host's IPC",
		},
		"windows": {
			pod:     func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} },
			profile: canCheckpoint(), why: "it is a Windows pod",
		},
		"linux": {pod: func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Linux} }, profile: canCheckpoint()},
		"all terminated": {
			pod: func(p *corev1.Pod) {
				p.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
			},
			profile: canCheckpoint(), why: "none of its containers runs",
		},
		"the node can't": {
			pod: func(*corev1.Pod) {}, profile: condition(metav1.ConditionFalse, "criu 3.17 is too old"),
			why: `the node "n1" can't: criu 3.17 is too old`,
		},
		"the node does not know": {
			pod: func(*corev1.Pod) {}, profile: &v1alpha1.NodeProfile{},
			why: `the agent of the node "n1" has not told yet whether it can`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d := admission.Decide(admission.Case{Trigger: v1alpha1.TriggerEviction, Pod: running(tc.pod), Profile: tc.profile, Now: now, MaxAttempts: 3})
			if d.Why != tc.why || (tc.why != "") != (d.Action == admission.Allow) {
				t.Errorf("Decide = %s, %q, want %q", d.Action, d.Why, tc.why)
			}
		})
	}
}
