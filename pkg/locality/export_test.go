// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
)

// NewTimed is New with another clock and another bound of its wait for data.
func NewTimed(clk clock.WithTicker, startup time.Duration) func(context.Context, runtime.Object, fwk.Handle) (fwk.Plugin, error) {
	return func(ctx context.Context, obj runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
		return newPlugin(ctx, obj, handle, timing{clock: clk, startup: startup})
	}
}

// LoadOn is what a node has to do until a pod with these images, of which every layer is known, runs there: on the node of one profile (nil: it has
// none) that reports images itself, while it pulls the others already.
func LoadOn(profile *v1alpha1.NodeProfile, reported []string, needed []imageindex.Image, others ...[]imageindex.Image) (pull, own int64, pods int) {
	var n *node
	if profile != nil {
		n = newNode(profile)
	}
	info := framework.NewNodeInfo()
	info.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}})
	info.ImageStates = map[string]*fwk.ImageStateSummary{}
	for _, name := range reported {
		info.ImageStates[name] = &fwk.ImageStateSummary{}
	}
	busy := newUnderWay(clock.RealClock{}, newCatalog())
	for i, images := range others {
		busy.add(types.UID(strconv.Itoa(i)), start{node: "node", job: workOf(images).on(n, info.ImageStates)})
	}
	l := busy.load(workOf(needed), n, info)
	return l.pull, l.own, l.pods
}

func workOf(images []imageindex.Image) *work {
	w := &work{}
	for _, i := range images {
		needed := image{names: i.Names, digest: i.Digest}.identified()
		for _, l := range i.Layers {
			id, _ := imageindex.LayerOf(l.Digest)
			needed.layers = append(needed.layers, sizedLayer{id, l.Bytes})
			needed.bytes += l.Bytes
		}
		w.images = append(w.images, needed)
	}
	w.images = distinct(w.images)
	return w
}

// Seconds is what a model predicts, with a node's measured pull rate.
func Seconds(m Model, pull, restore int64, pods int, measured int64) float64 {
	m.setDefaults()
	return newPredictor(m).seconds(load{pull: pull, restore: restore, pods: pods}, (&node{pullRate: measured}).measured())
}

// Price is what a model scores a node by.
func Price(m Model, pull, own, measured int64) int64 {
	m.setDefaults()
	return newPredictor(m).price(load{pull: pull, own: own, pods: 1}, (&node{pullRate: measured}).measured())
}

// BalancePrices are what the load counts on each of some nodes.
func BalancePrices(cost time.Duration, pod *corev1.Pod, nodes ...fwk.NodeInfo) []time.Duration {
	b := newBalance(cost, pod, nodes)
	var all []time.Duration
	for _, n := range nodes {
		all = append(all, time.Duration(b.price(n))*time.Millisecond)
	}
	return all
}

// Never is the score of a node that can't restore the pod, before Normalize.
const Never = never

// Normalize is normalize.
func Normalize(fullScale time.Duration, milliseconds ...int64) []int64 {
	scores := fwk.NodeScoreList{}
	for _, ms := range milliseconds {
		scores = append(scores, fwk.NodeScore{Score: ms})
	}
	normalize(scores, fullScale.Milliseconds())
	var out []int64
	for _, s := range scores {
		out = append(out, s.Score)
	}
	return out
}
