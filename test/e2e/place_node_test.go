// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/object"
)

// fakeNode is one that schedulers see and nothing runs on: it has no kubelet, and no agent either, as it says nothing of its operating system.
type fakeNode struct {
	name string
	// lacks is the CPU feature that it has not.
	lacks string
}

// join makes the node, reserved, as large as another one and with the same images, without one of the CPU features, until the test ends.
func (n *fakeNode) join(s *scene, like string, features []string) {
	s.t.Helper()
	if len(features) == 0 {
		s.t.Fatal("the checkpoint has no CPU features")
	}
	n.lacks = features[0]
	model := s.nodeObject(like)
	var profile v1alpha1.NodeProfile
	if err := testbed.Client.Get(s.t.Context(), client.ObjectKey{Name: like}, &profile); err != nil {
		s.t.Fatal(err)
	}
	profile.ObjectMeta = metav1.ObjectMeta{Name: n.name}
	profile.Status.CPUFeatures = slices.DeleteFunc(profile.Status.CPUFeatures, func(f string) bool { return f == n.lacks })
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{
			corev1.LabelHostname: n.name, corev1.LabelArchStable: model.Labels[corev1.LabelArchStable],
		}},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: object.TaintReserved, Value: n.name, Effect: corev1.TaintEffectNoSchedule}}},
	}
	s.t.Cleanup(func() { n.leave(s, node, &profile) })
	s.create(node, &profile)
	before := node.DeepCopy()
	node.Status.Capacity, node.Status.Allocatable, node.Status.Images = model.Status.Capacity, model.Status.Allocatable, model.Status.Images
	node.Status.NodeInfo = model.Status.NodeInfo
	if err := testbed.Client.Status().Patch(s.t.Context(), node, client.MergeFrom(before)); err != nil {
		s.t.Fatal(err)
	}
	n.beat(s)
	ctx, cancel := s.within(toldTimeout)
	defer cancel()
	s.until(ctx, func() error {
		if taints := s.nodeObject(n.name).Spec.Taints; len(taints) != 1 {
			return fmt.Errorf("node %q has taints %v, want its own only", n.name, taints)
		}
		return nil
	})
}

// beat has the node say that it is ready, which holds for as long as a kubelet's word does.
func (n *fakeNode) beat(s *scene) {
	s.t.Helper()
	node := s.nodeObject(n.name)
	before := node.DeepCopy()
	now := metav1.Now()
	node.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now,
	}}
	if err := testbed.Client.Status().Patch(s.t.Context(), node, client.MergeFrom(before)); err != nil {
		s.t.Fatal(err)
	}
}

func (n *fakeNode) leave(s *scene, objects ...client.Object) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	for _, o := range objects {
		if err := client.IgnoreNotFound(testbed.Client.Delete(ctx, o)); err != nil {
			s.t.Error(err)
		}
	}
}
