// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
)

// workKey is where PreScore leaves the *work for Score.
const workKey fwk.StateKey = Name + "/work"

// work is what has to be done on a node until the pod of the scheduling cycle runs there.
type work struct {
	// target is what the node has to offer, nil when anything will do or Filter has seen to it.
	target *target
	// images have to be there.
	images []image
	// restore is how many bytes of checkpoints are restored.
	restore int64
	// predictions are for the nodes that are scored and tell of their images; nil where nobody made them.
	predictions *predictions
	balance     balance
}

// Clone returns the work itself: it never changes.
func (w *work) Clone() fwk.StateData { return w }

// PreScore skips Score for pods that are not opted in, and for those to which all nodes are the same.
func (p *Plugin) PreScore(_ context.Context, state fwk.CycleState, pod *corev1.Pod, feasible []fwk.NodeInfo) *fwk.Status {
	if !optedIn(pod) {
		return fwk.NewStatus(fwk.Skip)
	}
	// Not only the feasible nodes: the one that has the image may be the one that is drained.
	nodes, err := p.handle.SnapshotSharedLister().NodeInfos().List()
	if err != nil {
		return fwk.AsStatus(err)
	}
	w := p.workFor(pod, nodes)
	if len(w.images) == 0 && !restoring(pod) {
		return fwk.NewStatus(fwk.Skip)
	}
	if d, filtered := read[*demands](state, demandsKey); restoring(pod) && (!filtered || !d.stays) {
		// Filter lets the pod go where it has to start cold: such a node comes last.
		w.target, _ = p.target(p.checkpointOf(pod))
	}
	w.predictions = p.predictions(w, feasible, nodes)
	w.balance = newBalance(p.args.Model.BalanceTime.Duration, pod, feasible)
	state.Write(workKey, w)
	return nil
}

// workFor is what has to be done for the pod. Images that no NodeProfile knows are looked for among what the nodes report of themselves.
func (p *Plugin) workFor(pod *corev1.Pod, nodes []fwk.NodeInfo) *work {
	w, c := &work{}, p.checkpointOf(pod)
	if restoring(pod) {
		w.restore = c.restored(pod)
	}
	w.images = resolve(needed(pod, c), p.data.images, nodes)
	return w
}

// lacking calls a function with all that a node has to pull for the work (see image.missing); n is nil for a node without a profile, of which only the images
// that it reports itself are known.
func (w *work) lacking(n *node, reported map[string]*fwk.ImageStateSummary, pull func(*image, *sizedLayer)) {
	for i := range w.images {
		w.images[i].missing(n, reported, pull)
	}
}

// on is what is left to do on one node.
func (w *work) on(n *node, reported map[string]*fwk.ImageStateSummary) job {
	j := job{restore: w.restore}
	w.lacking(n, reported, func(i *image, layer *sizedLayer) {
		if layer == nil {
			j.whole = append(j.whole, wholeImage{i.names[0], i.bytes})
			return
		}
		j.layers = append(j.layers, *layer)
	})
	return j
}
