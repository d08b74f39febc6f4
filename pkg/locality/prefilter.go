// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// newNodeAge is until when a node that its agent has said nothing good of counts as one whose agent is about to.
const newNodeAge = 3 * time.Minute

// demandsKey is where PreFilter leaves the *demands for Filter.
const demandsKey fwk.StateKey = Name + "/demands"

// demands are what Filter looks at in the nodes.
type demands struct {
	// target is what a node has to offer, nil when anything will do.
	target *target
}

// Clone returns the demands themselves: they never change.
func (d *demands) Clone() fwk.StateData { return d }

// target is what a node has to offer to the pod of the scheduling cycle.
type target struct {
	method       string
	requirements v1alpha1.Requirements
	cpu          CPUFeaturePolicy
}

func (t *target) refuses(n *node) *refusal { return fit(n, t.method, t.requirements, t.cpu) }

// PreFilter skips Filter for every pod that may go anywhere: one that is not opted in, and, as long as no node ends, one that does not
// restore, one whose checkpoint is over, one that has waited long enough, and any while NodeProfiles cannot be read.
func (p *Plugin) PreFilter(_ context.Context, state fwk.CycleState, pod *corev1.Pod, nodes []fwk.NodeInfo) (*fwk.PreFilterResult, *fwk.Status) {
	if !optedIn(pod) {
		return nil, fwk.NewStatus(fwk.Skip)
	}
	d := &demands{}
	if restoring(pod) {
		d.target = p.restoreTarget(pod, nodes)
	}
	if d.target == nil && !p.anyEnding(pod, nodes) {
		return nil, fwk.NewStatus(fwk.Skip)
	}
	state.Write(demandsKey, d)
	return nil, nil
}

// restoreTarget is what a node has to offer for the pod to be restored there, nil where it may go anywhere.
func (p *Plugin) restoreTarget(pod *corev1.Pod, nodes []fwk.NodeInfo) *target {
	patient := p.waiting.enter(pod)
	t, outcome := p.target(p.checkpointOf(pod))
	if t != nil && !patient {
		t, outcome = nil, outcomePatienceOver
	}
	decisions.WithLabelValues(outcome).Inc()
	if t != nil && !p.hope(pod, t, nodes) {
		p.waiting.despair(pod)
	}
	return t
}

// hope reports whether the pod may wait for any of the nodes: one that can restore it, or one so new that its agent has had no time to
// tell. A node that is cordoned or ends, as the pod's former one most often is, is nothing to wait for, nor is one that the pod itself rules out.
func (p *Plugin) hope(pod *corev1.Pod, t *target, nodes []fwk.NodeInfo) bool {
	wanted := nodeaffinity.GetRequiredNodeAffinity(pod)
	return slices.ContainsFunc(nodes, func(info fwk.NodeInfo) bool {
		n := info.Node()
		if n == nil || n.Spec.Unschedulable || ending(pod, n, p.waiting.clock.Now()) != nil {
			return false
		}
		if matches, err := wanted.Match(n); err != nil || !matches {
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
