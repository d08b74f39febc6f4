// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/object"
)

// half is more than half of what a node has: two pods that request it don't fit on one.
var half = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1100m")}

// testPreemption has a scheduler make room on doomed for a pod of higher priority: the victim goes on on another node.
func testPreemption(scheduler string) func(*testing.T) {
	return func(t *testing.T) {
		s := newScene(t, "preemption", nil, "main")
		template := s.reserved(doomed)
		template.Spec.Containers[0].Resources.Requests = half
		s.create(s.Deployment(s.name, template))
		victim := s.settleOn(doomed)
		preemptor := s.preempt(scheduler)
		after := s.replaced(victim, 2*moveTimeout)
		s.checkLeft(victim, after)
		s.checkReason(victim, v1alpha1.ReasonPreemption)
		s.checkRuns(preemptor, doomed)
	}
}

// testPreemptedAndBack preempts a pod that may run nowhere else: its checkpoint waits until there is room again. One scheduler has
// both pods: of two, the one that is not preempting may give the room to the victim's replacement at once (docs/limits.md).
func testPreemptedAndBack(t *testing.T) {
	s := newScene(t, "preempted", nil, "main")
	template := s.reserved(doomed)
	template.Spec.NodeSelector = map[string]string{corev1.LabelHostname: doomed}
	template.Spec.Containers[0].Resources.Requests = half
	s.create(s.Deployment(s.name, template))
	victim := s.settleOn(doomed)
	preemptor := s.preempt(v1alpha1.SchedulerName)
	s.checkRuns(preemptor, doomed)
	waiting, err := testbed.Pod(t.Context(), s.Namespace, s.name)
	if err != nil || waiting.UID == victim.UID || waiting.Spec.NodeName != "" {
		t.Fatalf("the replacement of pod %q: %+v, %v; want one that waits for room", victim.Name, waiting, err)
	}
	s.remove(preemptor)
	after := s.replaced(victim, moveTimeout)
	s.checkMoved(victim, after, 1)
	s.checkReason(victim, v1alpha1.ReasonPreemption)
}

// preempt makes a pod of higher priority that fits on doomed only when the scene's pod goes.
func (s *scene) preempt(scheduler string) *corev1.Pod {
	s.t.Helper()
	const name = "preemptor"
	priority := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}, Value: 1000}
	s.create(priority)
	s.t.Cleanup(func() {
		if err := testbed.Client.Delete(context.Background(), priority); err != nil {
			s.t.Error(err)
		}
	})
	template := s.Template(name, s.Stepper(name, "main"))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: name, Labels: template.Labels}, Spec: template.Spec}
	pod.Spec.SchedulerName = scheduler
	pod.Spec.PriorityClassName = priority.Name
	pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: doomed}
	pod.Spec.Tolerations = []corev1.Toleration{object.Tolerate(doomed)}
	pod.Spec.Containers[0].Resources.Requests = half
	ctx, cancel := s.within(startTimeout)
	defer cancel()
	// The API server takes a moment until it knows a new PriorityClass, and forbids pods of it meanwhile.
	s.until(ctx, func() error { return testbed.Client.Create(ctx, pod) })
	return pod
}

// checkRuns fails the test unless the pod comes to run on the node.
func (s *scene) checkRuns(pod *corev1.Pod, node string) {
	s.t.Helper()
	ctx, cancel := s.within(moveTimeout)
	defer cancel()
	s.until(ctx, func() error {
		if err := testbed.Client.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		if pod.Status.Phase != corev1.PodRunning || pod.Spec.NodeName != node {
			return fmt.Errorf("pod %q is %s on %q, want it to run on %q", pod.Name, pod.Status.Phase, pod.Spec.NodeName, node)
		}
		return nil
	})
}

// remove ends a pod and waits until its node has forgotten it.
func (s *scene) remove(pod *corev1.Pod) {
	s.t.Helper()
	ctx, cancel := s.within(moveTimeout)
	defer cancel()
	if _, err := testbed.Kubectl.Run(ctx, "delete", "pod", pod.Name, "-n", pod.Namespace, "--grace-period=1"); err != nil {
		s.t.Fatal(err)
	}
}
