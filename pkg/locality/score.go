// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/cryopod/cryopod/pkg/imageindex"
)

// littleBytes is as much as is pulled in less time than a container takes to start. A pod that needs less than that gains
// little from a node that has it, and the plugin's voice falls with it.
const littleBytes = 32 << 20

// Score returns the share, in hundredths, of the images' bytes that need not be pulled to the node; 0 for a node where the pod
// would have to start cold in place of being restored.
func (p *Plugin) Score(_ context.Context, state fwk.CycleState, _ *corev1.Pod, nodeInfo fwk.NodeInfo) (int64, *fwk.Status) {
	w, ok := read[*work](state, workKey)
	if !ok {
		return 0, nil
	}
	n := p.data.node(nodeInfo.Node().Name)
	if w.target != nil && w.target.refuses(n) != nil {
		return fwk.MinScore, nil
	}
	return present(w.images, n, nodeInfo.GetImageStates()), nil
}

// ScoreExtensions returns nil: Score's range is the framework's.
func (*Plugin) ScoreExtensions() fwk.ScoreExtensions { return nil }

// present returns the share of the images' bytes that is on a node, from fwk.MinScore to fwk.MaxScore; n is nil for a node
// without a profile, of which only the images that it reports itself are known.
func present(images []image, n *node, reported map[string]*fwk.ImageStateSummary) int64 {
	var total, missing int64
	for _, i := range images {
		total += i.bytes
		missing += i.missing(n, reported)
	}
	total = max(total, littleBytes)
	return fwk.MaxScore * (total - missing) / total
}

// missing returns how many of the image's bytes have to be pulled.
func (i image) missing(n *node, reported map[string]*fwk.ImageStateSummary) int64 {
	for _, name := range i.names {
		if _, ok := reported[name]; ok {
			return 0
		}
	}
	if n == nil {
		return i.bytes
	}
	for _, name := range i.names {
		if _, ok := n.Names[imageindex.NameOf(name)]; ok {
			return 0
		}
	}
	if id, ok := i.id(); ok {
		if _, have := n.Images[id]; have {
			return 0
		}
	}
	if len(i.layers) == 0 {
		return i.bytes
	}
	var absent int64
	for _, l := range i.layers {
		if _, have := n.Layers[l.id]; !have {
			absent += l.bytes
		}
	}
	return absent
}
