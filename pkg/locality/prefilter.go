// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
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

// demands are what Filter looks at in the nodes, beside whether they end.
type demands struct {
	// stays is whether the node must not be about to leave (see leaving).
	stays bool
	// target is what a node has to offer, nil when anything will do.
	target *target
	// roster has the nodes, and verdicts what target says to its kinds. Both are nil without a target.
	roster   *roster
	verdicts []*refusal
}

// newDemands are those of a target among the nodes.
func newDemands(t *target, stays bool, r *roster) *demands {
	d := &demands{stays: stays, target: t, roster: r}
	for _, kind := range r.kinds {
		d.verdicts = append(d.verdicts, t.refuses(kind))
	}
	return d
}

// Clone returns the demands themselves: they never change.
func (d *demands) Clone() fwk.StateData { return d }

func (d *demands) refuses(node *corev1.Node, known *data) *refusal {
	if d.stays {
		if r := leaving(node); r != nil {
			return r
		}
	}
	if d.target == nil {
		return nil
	}
	if s, found := d.roster.seat(node); found {
		return d.verdicts[s.kind]
	}
	return d.target.refuses(known.node(node.Name))
}

// PreFilter skips Filter for pods that are not opted in, and while no node ends for those that don't restore: these are kept off no others.
func (p *Plugin) PreFilter(_ context.Context, state fwk.CycleState, pod *corev1.Pod, nodes []fwk.NodeInfo) (*fwk.PreFilterResult, *fwk.Status) {
	if !optedIn(pod) || !restoring(pod) && p.departures.none() {
		return nil, fwk.NewStatus(fwk.Skip)
	}
	d := &demands{}
	if restoring(pod) {
		d = p.restoreDemands(pod, nodes)
	}
	state.Write(demandsKey, d)
	return nil, nil
}

// restoreDemands are none where the pod is going to start cold: its checkpoint is over, or it has waited long enough.
func (p *Plugin) restoreDemands(pod *corev1.Pod, nodes []fwk.NodeInfo) *demands {
	patient := p.waiting.enter(pod)
	t, outcome := p.target(p.checkpointOf(pod))
	if t != nil && !patient {
		t, outcome = nil, outcomePatienceOver
	}
	decisions.WithLabelValues(outcome).Inc()
	d := &demands{stays: patient && outcome != outcomeCheckpointOver}
	if t != nil {
		d = newDemands(t, d.stays, p.data.images.roster(nodes))
	}
	if d.stays {
		fits, hope := p.prospects(pod, d, nodes)
		p.waiting.expect(pod, fits, hope)
	}
	return d
}

// prospects reports whether the pod could be restored on any of the nodes as they are, whatever other plugins say; and whether it may wait for one:
// that can restore it, or is so new that its agent has had no time to tell. A node that is cordoned or ends, as the pod's former one most often is,
// is nothing to wait for, nor is one that the pod itself rules out.
func (p *Plugin) prospects(pod *corev1.Pod, d *demands, nodes []fwk.NodeInfo) (fits, hope bool) {
	wanted := nodeaffinity.GetRequiredNodeAffinity(pod)
	for _, info := range nodes {
		n := info.Node()
		if n == nil || ending(pod, n, p.waiting.clock) != nil {
			continue
		}
		r := d.refuses(n, p.data)
		fits = fits || r == nil
		if r != nil && (!r.passes() || p.waiting.clock.Since(n.CreationTimestamp.Time) >= newNodeAge) {
			continue
		}
		if matches, err := wanted.Match(n); err == nil && matches {
			hope = true
		}
		if fits && hope {
			break
		}
	}
	return fits, hope
}

// PreFilterExtensions returns nil: other pods on a node do not matter.
func (*Plugin) PreFilterExtensions() fwk.PreFilterExtensions { return nil }

// target returns nil where a restoring pod may go anywhere, and the outcome for the metric. A checkpoint that is not known makes
// no demands of its own.
func (p *Plugin) target(c *checkpoint) (*target, string) {
	by := policy{cpu: p.args.CPUFeatures, kernel: p.args.Kernel}
	switch {
	case !p.data.profiled():
		return nil, outcomeNoData
	case c == nil:
		return &target{demand: newDemand(v1alpha1.Requirements{}), by: by, compared: &p.cpus}, outcomeCheckpointUnknown
	case c.over():
		return nil, outcomeCheckpointOver
	default:
		return &target{demand: c.demand, by: by, compared: &p.cpus}, outcomeChecked
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
