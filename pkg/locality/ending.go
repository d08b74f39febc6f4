// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/termination"
)

// announced are the taints that Cryopod gives its pods tolerations for, so that they may stay for a while. They must not let one come.
var announced = termination.Defaults()

// ending says why an opted-in pod must not come to the node although its tolerations might let it: the node's end is announced. Nil when it is not.
func ending(pod *corev1.Pod, node *corev1.Node, clk clock.PassiveClock) *refusal {
	// Most nodes have no notice: what takes longest here is to ask for the time.
	if _, noticed := node.Annotations[v1alpha1.AnnotationNotice]; noticed {
		if n, running := termination.Running(node, clk.Now()); running {
			return endsSoon(n.Cause)
		}
	}
	// The notice is over, and the taint still there.
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if evicts(taint) && forAWhile(pod, taint) {
			return endsSoon(taint.Key)
		}
	}
	return nil
}

// evicts reports whether the taint announces the node's end and ends the pods there.
func evicts(taint *corev1.Taint) bool {
	_, listed := announced.Find(taint.Key)
	return listed && taint.Effect == corev1.TaintEffectNoExecute
}

// leaving says why nothing is restored on the node, whatever a pod tolerates, and although a pod that starts cold might go there: it is cordoned, or
// a taint announces its end, of whatever effect and age. What is restored there would have to move again. Nil when it is neither.
func leaving(node *corev1.Node) *refusal {
	cordoned := node.Spec.Unschedulable
	for i := range node.Spec.Taints {
		key := node.Spec.Taints[i].Key
		if _, listed := announced.Find(key); listed || key == corev1.TaintNodeOutOfService {
			return endsSoon(key)
		}
		cordoned = cordoned || key == corev1.TaintNodeUnschedulable
	}
	if cordoned {
		return &refusal{refusedCordoned, "node(s) that are cordoned, where nothing is restored"}
	}
	return nil
}

// closed is ending for a pod that starts cold, and leaving too for one that restores.
func closed(pod *corev1.Pod, node *corev1.Node, clk clock.PassiveClock) *refusal {
	if r := ending(pod, node, clk); r != nil || !restoring(pod) {
		return r
	}
	return leaving(node)
}

func endsSoon(cause string) *refusal {
	return &refusal{refusedEnding, fmt.Sprintf("node(s) that end soon (%s)", cause)}
}

// forAWhile tells whether the pod tolerates the taint for some time only.
func forAWhile(pod *corev1.Pod, taint *corev1.Taint) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return t.Key == taint.Key && t.Operator == corev1.TolerationOpExists && t.Effect == taint.Effect && t.TolerationSeconds != nil
	})
}
