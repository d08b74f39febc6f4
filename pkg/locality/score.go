// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"math"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
)

// never is the score, before it is normalized, of a node where the pod would have to start cold in place of being restored.
const never = math.MaxInt64

// Score returns the node's price for the pod: in how many milliseconds it is predicted to run there, and what its pulls and its share of the load count beside.
func (p *Plugin) Score(_ context.Context, state fwk.CycleState, _ *corev1.Pod, nodeInfo fwk.NodeInfo) (int64, *fwk.Status) {
	w, ok := read[*work](state, workKey)
	if !ok {
		return 0, nil
	}
	price := p.predict(w, nodeInfo)
	if price != never {
		price += w.balance.price(nodeInfo)
	}
	return price, nil
}

// predict is the price without the load's part, and never for a node that can't restore the pod or is about to leave.
func (p *Plugin) predict(w *work, nodeInfo fwk.NodeInfo) int64 {
	node := nodeInfo.Node()
	if w.target != nil && (leaving(node) != nil || w.target.refuses(p.data.node(node.Name)) != nil) {
		return never
	}
	if price, known := w.predictions.of(node); known {
		return price
	}
	n := p.data.node(node.Name)
	return p.predictor.price(p.underWay.load(w, n, nodeInfo), n.measured())
}

// ScoreExtensions returns the plugin, for NormalizeScore.
func (p *Plugin) ScoreExtensions() fwk.ScoreExtensions { return p }

// NormalizeScore gives the node of the lowest price fwk.MaxScore, and each other one less by what it costs more: nine tenths of the range for the args'
// FullScale, and the rest as fast as the price grows. So a second is worth as much whether or not some node is minutes away, other plugins decide between
// nodes that are about as good, and of two that are far off the nearer one still wins.
func (p *Plugin) NormalizeScore(_ context.Context, _ fwk.CycleState, _ *corev1.Pod, scores fwk.NodeScoreList) *fwk.Status {
	normalize(scores, p.args.Model.FullScale.Milliseconds())
	return nil
}

// farScore is what a node scores that costs FullScale more than the best.
const farScore = fwk.MaxScore / 10

func normalize(scores fwk.NodeScoreList, fullScale int64) {
	best := int64(never)
	for _, s := range scores {
		best = min(best, s.Score)
	}
	for i, s := range scores {
		switch more := s.Score - best; {
		case s.Score == never:
			scores[i].Score = fwk.MinScore
		case more <= fullScale:
			scores[i].Score = fwk.MaxScore - (fwk.MaxScore-farScore)*more/fullScale
		default:
			scores[i].Score = farScore * fullScale / more
		}
	}
}
