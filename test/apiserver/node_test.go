// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/termination"
)

const spotTaint = "aws-node-termination-handler/spot-itn"

func newNode(t *testing.T, taints ...corev1.Taint) *corev1.Node {
	t.Helper()
	node := create(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{GenerateName: "node-"}, Spec: corev1.NodeSpec{Taints: taints}})
	t.Cleanup(func() { _ = admin.Delete(context.Background(), node) })
	return node
}

// change updates the node as its changers do, and tells how often the webhook was called for it.
func change(t *testing.T, node *corev1.Node, f func(*corev1.Node), opts ...client.PatchOption) (calledTimes int64) {
	t.Helper()
	settle(t, node)
	before, from := calls[admission.PathNode].Load(), node.DeepCopy()
	f(node)
	if err := admin.Patch(t.Context(), node, client.MergeFrom(from), opts...); err != nil {
		t.Fatal(err)
	}
	return calls[admission.PathNode].Load() - before
}

func TestNodeNotice(t *testing.T) {
	taint := func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: spotTaint, Effect: corev1.TaintEffectNoSchedule})
	}
	node := newNode(t)
	trial := node.DeepCopy()
	change(t, trial, taint, client.DryRunAll)
	if _, running := termination.Running(trial, time.Now()); !running {
		t.Errorf("in a dry run the node has the annotations %v", trial.Annotations)
	}
	if n := change(t, node, taint); n != 1 {
		t.Errorf("the taint made %d calls, want 1", n)
	}
	notice, running := termination.Running(node, time.Now())
	if left := time.Until(notice.Deadline); !running || notice.Cause != spotTaint || notice.Voluntary || left > 2*time.Minute || left < time.Minute {
		t.Errorf("notice %+v, running %v", notice, running)
	}
	stamped := node.Annotations[v1alpha1.AnnotationNotice]
	for what, f := range map[string]func(*corev1.Node){
		"a label":            func(n *corev1.Node) { n.Labels = map[string]string{"a": "b"} },
		"the taint's value":  func(n *corev1.Node) { n.Spec.Taints[0].Value = "i-123" },
		"the taint's effect": func(n *corev1.Node) { n.Spec.Taints[0].Effect = corev1.TaintEffectNoExecute },
		"a cordon":           func(n *corev1.Node) { n.Spec.Unschedulable = true },
		"another's taint": func(n *corev1.Node) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "x", Effect: corev1.TaintEffectNoExecute})
		},
		"another's annotation": func(n *corev1.Node) { n.Annotations["x"] = "y" },
	} {
		if n := change(t, node, f); n != 0 {
			t.Errorf("%s made %d calls", what, n)
		}
	}
	if got := node.Annotations[v1alpha1.AnnotationNotice]; got != stamped {
		t.Errorf("the notice became %q", got)
	}
	if n := change(t, node, func(n *corev1.Node) { n.Spec.Taints = nil }); n != 1 {
		t.Errorf("the taint's end made %d calls, want 1", n)
	}
	if got, ok := node.Annotations[v1alpha1.AnnotationNotice]; ok {
		t.Errorf("the notice stays: %q", got)
	}
}

// TestNodeCostsNothing changes nodes in all the ways that nodes change all the time.
func TestNodeCostsNothing(t *testing.T) {
	before := calls[admission.PathNode].Load()
	node := newNode(t, corev1.Taint{Key: spotTaint, Effect: corev1.TaintEffectNoSchedule})
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
	if err := admin.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	change(t, node, func(n *corev1.Node) { n.Spec.PodCIDR, n.Spec.PodCIDRs = "10.0.0.0/24", []string{"10.0.0.0/24"} })
	change(t, node, func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "node.kubernetes.io/unreachable", Effect: corev1.TaintEffectNoExecute})
	})
	if err := admin.Delete(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if n := calls[admission.PathNode].Load() - before; n != 0 {
		t.Errorf("%d calls", n)
	}
}
