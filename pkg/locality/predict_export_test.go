// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Cluster is what the plugin knows of one, without an API server.
type Cluster struct {
	p      *Plugin
	atOnce int
}

// NewCluster makes an empty one.
func NewCluster() *Cluster {
	var m Model
	m.setDefaults()
	images := newCatalog()
	return &Cluster{p: &Plugin{predictor: newPredictor(m), data: &data{images: images}, underWay: newUnderWay(clock.RealClock{}, images)}}
}

// Profile takes a change of a NodeProfile; nil for none.
func (c *Cluster) Profile(before, after *v1alpha1.NodeProfile) {
	var was, is *node
	if before != nil {
		was = newNode(before)
	}
	if after != nil {
		is = newNode(after)
	}
	c.p.data.images.replace(was, is)
	if is != nil {
		c.p.underWay.arrived(is.Name, is.Index)
	}
}

// Add puts a pod on its way to a node.
func (c *Cluster) Add(uid, node string, pod *corev1.Pod, nodes []*corev1.Node) {
	w := c.work(pod, nodes)
	c.p.underWay.add(types.UID(uid), start{node: node, job: w.on(c.p.data.node(node), nil)})
}

// Remove has it run.
func (c *Cluster) Remove(uid string) { c.p.underWay.remove(types.UID(uid)) }

func (c *Cluster) work(pod *corev1.Pod, nodes []*corev1.Node) *work {
	infos, _ := cache.NewSnapshot(nil, nodes).NodeInfos().List()
	w := &work{images: resolve(needed(pod, nil), c.p.data.images, infos), restore: 1 << 20}
	if restoring(pod) {
		w.target = &target{demand: newDemand(v1alpha1.Requirements{Kernel: "6.1"}), compared: &comparisons{}}
	}
	return w
}

// Disagreement is the first node for which the two ways to predict, or to tell whether it can restore the pod, tell something else; empty where there is none.
func (c *Cluster) Disagreement(pod *corev1.Pod, nodes []*corev1.Node) string {
	infos, _ := cache.NewSnapshot(nil, nodes).NodeInfos().List()
	w := c.work(pod, nodes)
	atOnce := *w
	atOnce.predictions = c.p.predictions(w, infos, infos)
	for _, info := range infos {
		name := info.Node().Name
		if _, known := atOnce.predictions.of(info.Node()); known {
			c.atOnce++
		}
		if got, want := c.p.predict(&atOnce, info), c.p.predict(w, info); got != want {
			return fmt.Sprintf("%s: %d ms with all nodes, %d ms alone", name, got, want)
		}
		if w.target == nil {
			continue
		}
		got, want := newDemands(w.target, false, c.p.data.images.roster(infos)).refuses(info.Node(), c.p.data), w.target.refuses(c.p.data.node(name))
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Sprintf("%s: refused with all nodes: %v, alone: %v", name, got, want)
		}
	}
	return ""
}

// PredictedAtOnce is how many prices Disagreement has looked at that were predicted together.
func (c *Cluster) PredictedAtOnce() int { return c.atOnce }

// Left is what is kept though there is nothing any more; empty where nothing is.
func (c *Cluster) Left() string {
	k, u := c.p.data.images, c.p.underWay
	if k.telling+len(k.images)+len(k.names)+len(k.layers)+len(k.places)+len(u.nodes)+len(u.pods)+len(u.layers)+len(u.whole) == 0 && len(k.free) == len(k.profiles) {
		for _, l := range u.loads {
			if l != (load{}) {
				return fmt.Sprintf("a load %+v", l)
			}
		}
		return ""
	}
	return fmt.Sprintf("%d images, %d names, %d layers, %d places, %d free of %d; under way %d nodes, %d pods, %d layers, %d images", len(k.images), len(k.names),
		len(k.layers), len(k.places), len(k.free), len(k.profiles), len(u.nodes), len(u.pods), len(u.layers), len(u.whole))
}

// Known is of how many of the pod's images something is known.
func (c *Cluster) Known(pod *corev1.Pod, nodes []*corev1.Node) int {
	return len(c.work(pod, nodes).images)
}
