// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/cryopod/cryopod/pkg/termination"
)

// announced are the taints that Cryopod gives its pods tolerations for, so that they may stay for a while. They must not let one come.
var announced = termination.Defaults()

// ending says why the pod must not come to the node although its tolerations might let it: the node's end is announced. Nil when it is not.
func ending(pod *corev1.Pod, node *corev1.Node, now time.Time) *refusal {
	if n, running := termination.Running(node, now); running {
		return &refusal{refusedEnding, fmt.Sprintf("node(s) that end soon (%s)", n.Cause)}
	}
	// The notice is over, and the taint still there.
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if _, listed := announced.Find(taint.Key); listed && taint.Effect == corev1.TaintEffectNoExecute && forAWhile(pod, taint) {
			return &refusal{refusedEnding, fmt.Sprintf("node(s) that end soon (%s)", taint.Key)}
		}
	}
	return nil
}

// forAWhile tells whether the pod tolerates the taint for some time only.
func forAWhile(pod *corev1.Pod, taint *corev1.Taint) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return t.Key == taint.Key && t.Operator == corev1.TolerationOpExists && t.Effect == taint.Effect && t.TolerationSeconds != nil
	})
}

// anyEnding tells whether one of the nodes is kept from the pod because it ends.
func (p *Plugin) anyEnding(pod *corev1.Pod, nodes []fwk.NodeInfo) bool {
	now := p.waiting.clock.Now()
	return slices.ContainsFunc(nodes, func(info fwk.NodeInfo) bool {
		return info.Node() != nil && ending(pod, info.Node(), now) != nil
	})
}
