// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// machine is a node with a name of the test's own that is ready.
func machine(t *testing.T) *corev1.Node {
	t.Helper()
	node := create(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{GenerateName: "machine-"}})
	t.Cleanup(func() { _ = client.IgnoreNotFound(admin.Delete(context.Background(), node)) })
	heard(t, node, corev1.ConditionTrue)
	return node
}

func heard(t *testing.T, node *corev1.Node, ready corev1.ConditionStatus) {
	t.Helper()
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastHeartbeatTime: metav1.Now()}}
	if err := admin.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

// taint adds taints, as the node lifecycle controller or an administrator would. No taint manager runs here.
func taint(t *testing.T, node *corev1.Node, keys ...string) {
	t.Helper()
	for _, key := range keys {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: key, Value: "x", Effect: corev1.TaintEffectNoExecute})
	}
	if err := admin.Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

// dies lets the node be heard of no more.
func dies(t *testing.T, node *corev1.Node) {
	t.Helper()
	heard(t, node, corev1.ConditionUnknown)
	taint(t, node, corev1.TaintNodeUnreachable)
}

// removed deletes the node's object, as a cloud's controller does when the machine is gone.
func removed(t *testing.T, node *corev1.Node) {
	t.Helper()
	if err := admin.Delete(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

// collects does what Kubernetes's collector of orphaned pods does (pkg/controller/podgc): it marks the pod as failed, and deletes it by force.
func collects(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		live := getPod(t, pod)
		live.Status.Phase = corev1.PodFailed
		live.Status.Conditions = append(live.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC", Message: "PodGC: node no longer exists",
			LastTransitionTime: metav1.Now(),
		})
		return admin.Status().Update(t.Context(), live)
	})
	if err != nil {
		t.Fatal(err)
	}
	ends(t, pod)
}

// ends removes the pod's object, as its kubelet does when its containers have ended, and the collector by force.
func ends(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := admin.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
}

// goes has the pod deleted with its own grace period.
func goes(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := admin.Delete(t.Context(), pod, client.GracePeriodSeconds(30)); err != nil {
		t.Fatal(err)
	}
	if getPod(t, pod).DeletionTimestamp == nil {
		t.Fatal("the pod is not terminating")
	}
}
