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

// Score returns in how many milliseconds the pod is predicted to run on the node.
func (p *Plugin) Score(_ context.Context, state fwk.CycleState, _ *corev1.Pod, nodeInfo fwk.NodeInfo) (int64, *fwk.Status) {
	w, ok := read[*work](state, workKey)
	if !ok {
		return 0, nil
	}
	return p.predict(w, nodeInfo), nil
}

// predict is Score's result, and never for a node that can't restore the pod or is about to leave.
func (p *Plugin) predict(w *work, nodeInfo fwk.NodeInfo) int64 {
	name := nodeInfo.Node().Name
	if w.target != nil && (leaving(nodeInfo.Node()) != nil || w.target.refuses(p.data.node(name)) != nil) {
		return never
	}
	if ms, known := w.predictions.of(name); known {
		return ms
	}
	n := p.data.node(name)
	return p.predictor.milliseconds(p.underWay.load(w, n, nodeInfo), n.measured())
}

// ScoreExtensions returns the plugin, for NormalizeScore.
func (p *Plugin) ScoreExtensions() fwk.ScoreExtensions { return p }

// NormalizeScore gives the node where the pod runs soonest fwk.MaxScore, and each other one less by the time that it takes more: by the whole
// range for the args' FullScale, or for the worst node where that takes longer still. So a second is worth less where it matters less, and other plugins
// decide between nodes that are about as good.
func (p *Plugin) NormalizeScore(_ context.Context, _ fwk.CycleState, _ *corev1.Pod, scores fwk.NodeScoreList) *fwk.Status {
	normalize(scores, p.args.Model.FullScale.Milliseconds())
	return nil
}

func normalize(scores fwk.NodeScoreList, fullScale int64) {
	best, worst := int64(never), int64(0)
	for _, s := range scores {
		if s.Score != never {
			best, worst = min(best, s.Score), max(worst, s.Score)
		}
	}
	span := max(worst-best, fullScale)
	for i, s := range scores {
		if s.Score == never {
			scores[i].Score = fwk.MinScore
			continue
		}
		scores[i].Score = fwk.MaxScore - fwk.MaxScore*(s.Score-best)/span
	}
}
