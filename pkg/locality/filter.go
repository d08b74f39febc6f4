// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
)

// Filter keeps the pod off a node that ends, and, where it restores, off one that is cordoned or can't restore it. No preemption would change that,
// hence the status. The framework calls it after the plugins before it in the profile accepted the node.
func (p *Plugin) Filter(_ context.Context, state fwk.CycleState, pod *corev1.Pod, nodeInfo fwk.NodeInfo) *fwk.Status {
	d, ok := read[*demands](state, demandsKey)
	if !ok {
		return nil
	}
	node := nodeInfo.Node()
	if r := ending(pod, node, p.waiting.clock); r != nil {
		// No patience runs out for that: to start cold there would help nobody.
		refusals.WithLabelValues(r.class).Inc()
		return fwk.NewStatus(fwk.UnschedulableAndUnresolvable, r.message)
	}
	r := d.refuses(node, p.data)
	if r == nil {
		return nil
	}
	refusals.WithLabelValues(r.class).Inc()
	p.waiting.refuse(pod, r.message)
	return fwk.NewStatus(fwk.UnschedulableAndUnresolvable, r.message)
}
