// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
)

// Filter keeps the pod off a node that cannot restore it. No preemption would change that, hence the status. The framework calls
// it after the plugins before it in the profile accepted the node.
func (p *Plugin) Filter(_ context.Context, state fwk.CycleState, pod *corev1.Pod, nodeInfo fwk.NodeInfo) *fwk.Status {
	t, ok := read[*target](state, targetKey)
	if !ok {
		return nil
	}
	r := t.refuses(p.data.node(nodeInfo.Node().Name))
	if r == nil {
		return nil
	}
	refusals.WithLabelValues(r.class).Inc()
	p.waiting.refuse(pod, r.message)
	return fwk.NewStatus(fwk.UnschedulableAndUnresolvable, r.message)
}
