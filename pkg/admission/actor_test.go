// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const (
	kubeSystem = "system:serviceaccount:kube-system:"
	person     = "kubernetes-admin"
)

// target is a change of a pod that somebody says of that it is to be disrupted.
func target(reason string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason})
	}
}

func TestActorOf(t *testing.T) {
	const none = v1alpha1.Trigger("")
	stale := func(p *corev1.Pod) {
		target("DeletionByTaintManager")(p)
		p.Status.Conditions[1].Status = corev1.ConditionFalse
	}
	cordoned := &corev1.Node{Spec: corev1.NodeSpec{Unschedulable: true}}
	grace := func(seconds int64) *metav1.DeleteOptions { return &metav1.DeleteOptions{GracePeriodSeconds: &seconds} }
	plain := func(*admission.Deletion) {}
	on := func(text string) func(*admission.Deletion) {
		return func(d *admission.Deletion) { d.Pod.Annotations[v1alpha1.AnnotationOn] = text }
	}
	node := func(n *corev1.Node, ends bool) func(*admission.Deletion) {
		return func(d *admission.Deletion) { d.Node, d.Ends = n, ends }
	}
	for name, tc := range map[string]struct {
		user   string
		pod    func(*corev1.Pod)
		change func(*admission.Deletion)
		want   v1alpha1.Trigger
	}{
		"taint manager":                        {kubeSystem + "node-controller", target("DeletionByTaintManager"), plain, v1alpha1.TriggerTermination},
		"taint manager, one user for all":      {"system:kube-controller-manager", target("DeletionByTaintManager"), plain, v1alpha1.TriggerTermination},
		"taint manager of devices":             {kubeSystem + "device-taint-eviction-controller", target("DeletionByDeviceTaintManager"), plain, v1alpha1.TriggerTermination},
		"node controller, about something old": {kubeSystem + "node-controller", stale, plain, none},
		"node controller, for its own reasons": {kubeSystem + "node-controller", nil, plain, none},
		"pod garbage collector":                {kubeSystem + "pod-garbage-collector", target("DeletionByPodGC"), plain, none},
		"pod garbage collector, one user":      {"system:kube-controller-manager", target("DeletionByPodGC"), plain, none},

		"kube-scheduler":                      {"system:kube-scheduler", target("PreemptionByScheduler"), plain, v1alpha1.TriggerPreemption},
		"kube-scheduler, its condition late":  {"system:kube-scheduler", nil, plain, v1alpha1.TriggerPreemption},
		"Cryopod's scheduler":                 {"system:serviceaccount:cryopod-system:cryopod-scheduler", nil, plain, v1alpha1.TriggerPreemption},
		"Cryopod's webhook":                   {"system:serviceaccount:cryopod-system:cryopod-webhook", target("DeletionByTaintManager"), on("delete"), none},
		"Cryopod's agent":                     {"system:serviceaccount:cryopod-system:cryopod-agent", nil, on("delete"), none},
		"another scheduler":                   {"system:serviceaccount:volcano:scheduler", target("PreemptionByScheduler"), plain, v1alpha1.TriggerPreemption},
		"rollout of a pod to be preempted":    {kubeSystem + "replicaset-controller", target("PreemptionByScheduler"), plain, none},
		"kubelet, of a pod that is preempted": {"system:node:n1", target("PreemptionByScheduler"), plain, none},

		"Karpenter":             {"system:serviceaccount:karpenter:karpenter", nil, plain, v1alpha1.TriggerEviction},
		"Karpenter by Helm":     {kubeSystem + "karpenter", nil, plain, v1alpha1.TriggerEviction},
		"cluster-autoscaler":    {kubeSystem + "aws-cluster-autoscaler", nil, plain, v1alpha1.TriggerEviction},
		"descheduler":           {kubeSystem + "descheduler-sa", nil, plain, v1alpha1.TriggerEviction},
		"NTH":                   {kubeSystem + "aws-node-termination-handler", nil, plain, v1alpha1.TriggerEviction},
		"one whom we were told": {"arn:aws:drainer", nil, func(d *admission.Deletion) { d.Evicting = []string{"arn:*:drainer"} }, v1alpha1.TriggerEviction},

		"replicaset controller":   {kubeSystem + "replicaset-controller", nil, on("delete,eviction"), none},
		"statefulset controller":  {kubeSystem + "statefulset-controller", nil, on("delete,eviction"), none},
		"job controller":          {kubeSystem + "job-controller", nil, on("delete,eviction"), none},
		"namespace controller":    {kubeSystem + "namespace-controller", nil, on("delete,eviction"), none},
		"garbage collector":       {kubeSystem + "generic-garbage-collector", nil, on("delete,eviction"), none},
		"ttl controller":          {kubeSystem + "ttl-after-finished-controller", nil, on("delete,eviction"), none},
		"controllers, one user":   {"system:kube-controller-manager", nil, on("delete,eviction"), none},
		"rollout on a bad node":   {kubeSystem + "replicaset-controller", nil, node(cordoned, true), none},
		"somebody's controller":   {"system:serviceaccount:web:web-controller", nil, on("delete"), v1alpha1.TriggerDelete},
		"somebody":                {person, nil, plain, v1alpha1.TriggerDelete},
		"somebody, of a bad node": {person, nil, node(&corev1.Node{}, true), v1alpha1.TriggerTermination},
		"somebody drains":         {person, nil, node(cordoned, false), v1alpha1.TriggerEviction},
		"somebody, a good node":   {person, nil, node(&corev1.Node{}, false), v1alpha1.TriggerDelete},
		"somebody drains, and evictions don't matter": {
			person, nil, func(d *admission.Deletion) { node(cordoned, false)(d); on("delete")(d) }, v1alpha1.TriggerDelete,
		},
		"somebody, of a bad node, and only evictions matter": {
			person, nil, func(d *admission.Deletion) { node(cordoned, true)(d); on("eviction")(d) }, v1alpha1.TriggerEviction,
		},

		"at once":                        {person, nil, func(d *admission.Deletion) { d.Options = grace(0) }, none},
		"at once, by the scheduler":      {"system:kube-scheduler", nil, func(d *admission.Deletion) { d.Options = grace(0) }, none},
		"at once, as with all such pods": {person, func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr.To(int64(0)) }, func(d *admission.Deletion) { d.Options = grace(0) }, v1alpha1.TriggerDelete},
		"soon":                           {person, nil, func(d *admission.Deletion) { d.Options = grace(1) }, v1alpha1.TriggerDelete},
		"terminating":                    {"system:kube-scheduler", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }, plain, none},
	} {
		t.Run(name, func(t *testing.T) {
			d := admission.Deletion{User: tc.user, Pod: running(), Evicting: admission.DefaultEvictingUsers}
			if tc.pod != nil {
				tc.pod(d.Pod)
			}
			tc.change(&d)
			got, why := admission.ActorOf(d)
			if got != tc.want || why == "" {
				t.Errorf("ActorOf = %q, because %q; want %q", got, why, tc.want)
			}
		})
	}
}
