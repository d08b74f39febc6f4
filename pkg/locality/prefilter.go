// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// newNodeAge is until when a node that its agent has said nothing good of counts as one whose agent is about to.
const newNodeAge = 3 * time.Minute

// targetKey is where PreFilter leaves the *target for Filter.
const targetKey fwk.StateKey = Name + "/target"

// target is what a node has to offer to the pod of the scheduling cycle.
type target struct {
	method       string
	requirements v1alpha1.Requirements
	cpu          CPUFeaturePolicy
}

// Clone returns the target itself: it never changes.
func (t *target) Clone() fwk.StateData { return t }

func (t *target) refuses(n *node) *refusal { return fit(n, t.method, t.requirements, t.cpu) }

// PreFilter skips Filter for every pod that may go anywhere: one that does not restore, one whose checkpoint is over, one that
// has waited long enough, and any while NodeProfiles cannot be read.
func (p *Plugin) PreFilter(_ context.Context, state fwk.CycleState, pod *corev1.Pod, nodes []fwk.NodeInfo) (*fwk.PreFilterResult, *fwk.Status) {
	if !restoring(pod) {
		return nil, fwk.NewStatus(fwk.Skip)
	}
	patient := p.waiting.enter(pod)
	t, outcome := p.target(p.checkpointOf(pod))
	if t != nil && !patient {
		t, outcome = nil, outcomePatienceOver
	}
	decisions.WithLabelValues(outcome).Inc()
	if t == nil {
		return nil, fwk.NewStatus(fwk.Skip)
	}
	if !p.hope(t, nodes) {
		p.waiting.despair(pod)
	}
	state.Write(targetKey, t)
	return nil, nil
}

// hope reports whether the pod may wait for any of the nodes: one that can restore it, or one so new that its agent has had no time to
// tell. A cordoned node, as the pod's former one most often is, is nothing to wait for.
func (p *Plugin) hope(t *target, nodes []fwk.NodeInfo) bool {
	return slices.ContainsFunc(nodes, func(info fwk.NodeInfo) bool {
		n := info.Node()
		if n == nil || n.Spec.Unschedulable {
			return false
		}
		r := t.refuses(p.data.node(n.Name))
		return r == nil || r.passes() && p.waiting.clock.Since(n.CreationTimestamp.Time) < newNodeAge
	})
}

// PreFilterExtensions returns nil: other pods on a node do not matter.
func (*Plugin) PreFilterExtensions() fwk.PreFilterExtensions { return nil }

// target returns nil where a restoring pod may go anywhere, and the outcome for the metric. A checkpoint that is not known makes
// no demands of its own.
func (p *Plugin) target(c *checkpoint) (*target, string) {
	switch {
	case !p.data.profiled():
		return nil, outcomeNoData
	case c == nil:
		return &target{method: v1alpha1.RestoreMethodImage, cpu: p.args.CPUFeatures}, outcomeCheckpointUnknown
	case c.over():
		return nil, outcomeCheckpointOver
	default:
		return &target{method: v1alpha1.RestoreMethodImage, requirements: c.requirements, cpu: p.args.CPUFeatures}, outcomeChecked
	}
}

// checkpointOf returns the checkpoint that the pod restores from, nil when it is not known or the pod does not restore.
func (p *Plugin) checkpointOf(pod *corev1.Pod) *checkpoint {
	if !restoring(pod) {
		return nil
	}
	return p.data.checkpoint(pod.Namespace, pod.Annotations[v1alpha1.AnnotationRestoreFrom])
}

func read[T fwk.StateData](state fwk.CycleState, key fwk.StateKey) (T, bool) {
	// The only error is that nothing was written, which the second result tells.
	data, _ := state.Read(key)
	t, ok := data.(T)
	return t, ok
}
