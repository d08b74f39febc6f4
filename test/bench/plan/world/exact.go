// SPDX-License-Identifier: Apache-2.0

package world

import (
	"cmp"
	"slices"

	"github.com/cryopod/cryopod/pkg/plan"
)

// Optimum is the most weight that could have been saved by somebody who knew all true rates and sizes beforehand: every way to begin the
// pods is tried, in any order, each at any end of any stage, up to Slots at once. known is what is known to be possible already. It gives up,
// and ok is false, after so many steps.
func (n *Node) Optimum(known float64, steps int) (best float64, ok bool) {
	x := &exact{node: n, best: known, steps: steps}
	for k := range n.Pods {
		x.byDensity = append(x.byDensity, k)
	}
	slices.SortFunc(x.byDensity, func(a, b int) int {
		return cmp.Compare(n.Pods[b].Weight*n.Pods[a].True, n.Pods[a].Weight*n.Pods[b].True)
	})
	x.visit(&state{node: n}, 1<<len(n.Pods)-1, 0, -1)
	return x.best, x.steps > 0
}

// Bound is a bound on that from above, for any number of pods: the slower stage does nothing but work, and may do parts of pods.
func (n *Node) Bound() float64 {
	all := make([]int, len(n.Pods))
	for k := range all {
		all[k] = k
	}
	slices.SortFunc(all, func(a, b int) int {
		return cmp.Compare(n.Pods[b].Weight*n.Pods[a].True, n.Pods[a].Weight*n.Pods[b].True)
	})
	x := &exact{node: n, byDensity: all}
	every := func(int) bool { return true }
	from := Latency.Seconds()
	return min(x.fraction(every, n.capacity(n.dumps, from)), x.fraction(every, n.capacity(n.pushes, from)))
}

type exact struct {
	node      *Node
	byDensity []int
	best      float64
	steps     int
}

// visit tries all that may follow. left are the pods not begun, as bits; of those begun at one time, each comes after the last one.
func (x *exact) visit(s *state, left int, saved float64, last int) {
	x.steps--
	if x.steps <= 0 {
		return
	}
	x.best = max(x.best, saved)
	if saved+x.bound(s, left) <= x.best*(1+1e-9) {
		return
	}
	if len(s.jobs) < Slots {
		for _, pod := range x.byDensity {
			if left>>pod&1 == 1 && pod > last {
				next := s.clone()
				next.begin(pod)
				x.visit(next, left&^(1<<pod), saved, pod)
			}
		}
	}
	if len(s.jobs) == 0 {
		return
	}
	next := s.clone()
	changed := next.advance(x.node.Notice)
	if next.now >= x.node.Notice-1e-9 && len(next.jobs) > 0 {
		return // One of them is late: the same without it is tried elsewhere.
	}
	for _, j := range changed {
		if j.stage > plan.Pushing {
			saved += x.node.Pods[j.pod].Weight
		}
	}
	x.visit(next, left, saved, -1)
}

// bound is what can still be saved at most.
func (x *exact) bound(s *state, left int) float64 {
	sure, dump, push := 0.0, x.node.capacity(x.node.dumps, s.now), x.node.capacity(x.node.pushes, s.now)
	for _, j := range s.jobs {
		sure += x.node.Pods[j.pod].Weight
		switch j.stage {
		case plan.Starting:
			dump -= x.node.Pods[j.pod].True
			push -= x.node.Pods[j.pod].True
		case plan.Dumping:
			dump -= j.left
			push -= x.node.Pods[j.pod].True
		case plan.Pushing:
			push -= j.left
		}
	}
	if dump < -1e-3 || push < -1e-3 {
		return 0
	}
	open := func(pod int) bool { return left>>pod&1 == 1 }
	return sure + min(x.fraction(open, dump), x.fraction(open, push))
}

// fraction is the greatest weight of those pods, or parts of them, that have no more bytes than capacity.
func (x *exact) fraction(of func(int) bool, capacity float64) float64 {
	sum := 0.0
	for _, pod := range x.byDensity {
		if !of(pod) || capacity <= 0 {
			continue
		}
		p := x.node.Pods[pod]
		sum += p.Weight * min(1, capacity/p.True)
		capacity -= p.True
	}
	return sum
}
