// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
)

var _ fwk.PreEnqueuePlugin = &Plugin{}

// holdReason is why a pod is not tried, as the metric counts it.
type holdReason string

const (
	heldForCheckpoint holdReason = "checkpoint_unknown"
	heldForNode       holdReason = "no_node_fits"
)

func (r holdReason) message() string {
	if r == heldForCheckpoint {
		return "waiting for the checkpoint that the pod restores from to be seen"
	}
	return "waiting for a node that can restore the pod"
}

// PreEnqueue keeps a restoring pod out of the active queue while a scheduling cycle would be wasted: its checkpoint was not seen yet, or its last
// cycle found no node at all that can restore it, and nothing changed for it since. What changes that activates the pod: its checkpoint, a NodeProfile
// that fits (see data), a node that fits (nodeComes), the end of its patience (waiting). Whatever else the queue moves it for ends here.
func (p *Plugin) PreEnqueue(_ context.Context, pod *corev1.Pod) *fwk.Status {
	if !restoring(pod) || !p.data.profiled() {
		return nil
	}
	why, news := p.waiting.hold(pod, func() bool { return p.checkpointOf(pod) != nil })
	if why == "" {
		return nil
	}
	if news {
		holds.WithLabelValues(string(why)).Inc()
	}
	return fwk.NewStatus(fwk.UnschedulableAndUnresolvable, why.message())
}
