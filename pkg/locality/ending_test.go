// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/termination"
)

const spot = "aws-node-termination-handler/spot-itn"

// noticed gives the node a notice of two minutes of that age.
func noticed(node *corev1.Node, age time.Duration) *corev1.Node {
	since := time.Now().Add(-age)
	node.Annotations = map[string]string{
		v1alpha1.AnnotationNotice: termination.Notice{Cause: spot, Since: since, Deadline: since.Add(2 * time.Minute)}.Encode(),
	}
	return node
}

func tainted(node *corev1.Node, key string, effect corev1.TaintEffect) *corev1.Node {
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: key, Effect: effect})
	return node
}

// TestPlacementOnNodesThatEnd has the plugin alone, without TaintToleration, whose taints the pods tolerate.
func TestPlacementOnNodesThatEnd(t *testing.T) {
	forged := newNode("forged")
	forged.Annotations = map[string]string{v1alpha1.AnnotationNotice: "soon"}
	nodes := []*corev1.Node{
		newNode("stays"), forged, noticed(newNode("ends"), time.Minute), noticed(newNode("over"), time.Hour),
		tainted(noticed(newNode("over-evicting"), time.Hour), spot, corev1.TaintEffectNoExecute),
		tainted(newNode("over-closed"), spot, corev1.TaintEffectNoSchedule),
		tainted(newNode("others"), "example.com/x", corev1.TaintEffectNoExecute),
	}
	var profiles []object
	for _, n := range nodes {
		profiles = append(profiles, newProfile(n.Name, n.Name != "over"))
	}
	const why = "node(s) that end soon (aws-node-termination-handler/spot-itn)"
	refused := map[string]string{
		"stays": "", "forged": "", "ends": why, "over": "", "over-evicting": why, "over-closed": "", "others": "",
	}
	everywhere := map[string]string{"stays": "", "forged": "", "ends": "", "over": "", "over-evicting": "", "over-closed": "", "others": ""}
	restoring := map[string]string{}
	for name, message := range refused {
		restoring[name] = message
	}
	restoring["over"] = "node(s) whose agent has not verified restoring by method image"
	byOwner := inject.OptIn(enabledPod(), inject.Options{})
	for i := range byOwner.Spec.Tolerations {
		byOwner.Spec.Tolerations[i].TolerationSeconds = nil
	}
	staying := map[string]string{}
	for name, message := range refused {
		staying[name] = message
	}
	staying["over-evicting"] = ""
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		want map[string]string
	}{
		"not opted in":                     {pod: newPod("plain", appImage, nil), want: everywhere},
		"starts fresh":                     {pod: inject.OptIn(enabledPod(), inject.Options{}), want: refused},
		"restores":                         {pod: inject.OptIn(restoringPod(), inject.Options{}), want: restoring},
		"its owner wants it to stay there": {pod: byOwner, want: staying},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFramework(t, startAPIServer(t, append(profiles, newCheckpoint())...), time.Minute, nodes...)
			got, _ := place(t, f, tc.pod)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRefusedPodTakesANodeThatStaysAfterAll is a whole scheduler whose only node ends, and then does not.
func TestRefusedPodTakesANodeThatStaysAfterAll(t *testing.T) {
	node := tainted(noticed(newNode("node"), time.Second), spot, corev1.TaintEffectNoExecute)
	r := startScheduler(t, startAPIServer(t), time.Minute, node)
	r.create(t, inject.OptIn(enabledPod(), inject.Options{Scheduler: true}))
	r.awaitRefusal(t, "0/1 nodes are available: 1 node(s) that end soon (aws-node-termination-handler/spot-itn).")
	stays := newNode("node")
	stays.ResourceVersion = "2" // the fake client counts none, and the scheduler skips what has the same
	if _, err := r.client.CoreV1().Nodes().Update(t.Context(), stays, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.awaitBinding(t, "node")
}
