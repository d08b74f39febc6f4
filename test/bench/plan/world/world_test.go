// SPDX-License-Identifier: Apache-2.0

package world_test

import (
	"math/rand/v2"
	"testing"

	"github.com/cryopod/cryopod/pkg/plan"
	"github.com/cryopod/cryopod/test/bench/plan/world"
)

// steps bounds the search for the optimum of one node.
const steps = 200_000

// TestPlanner holds the planner to the goals of "make bench-plan" on a smaller sample.
func TestPlanner(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	sum, found, scarce := 0.0, 0, 0
	for k := 0; found < 150; k++ {
		n := world.Draw(r)
		if len(n.Pods) > 60 {
			continue // It would take long here.
		}
		got := n.Planned(plan.Make)
		if got.Torn != 0 {
			t.Errorf("node %d: %d pods are half saved at the deadline", k, got.Torn)
		}
		if got.Saved > n.Bound()*(1+1e-9) {
			t.Errorf("node %d: %v saved, more than the bound %v", k, got.Saved, n.Bound())
		}
		if len(n.Pods) > world.Small {
			continue
		}
		best, ok := n.Optimum(got.Saved, steps)
		if !ok || best == 0 {
			continue
		}
		if best < n.Total() {
			scarce++
		}
		sum += got.Saved / best
		found++
	}
	if mean := sum / float64(found); mean < 0.95 || scarce == 0 {
		t.Errorf("%.3f of the optimum on %d nodes, of which %d can't save all; want 0.95", mean, found, scarce)
	}
}

// TestOptimum compares the search with what can be reckoned by hand.
func TestOptimum(t *testing.T) {
	tests := map[string]struct {
		notice float64
		bytes  []float64
		weight []float64
		want   float64
	}{
		"all":                   {10, []float64{1, 1}, []float64{1, 2}, 3},
		"none":                  {1, []float64{1, 1}, []float64{1, 2}, 0},
		"the one":               {5, []float64{2, 2}, []float64{1, 2}, 2},
		"two beside each other": {6.7, []float64{2, 2}, []float64{1, 2}, 3},
		"two small ones":        {4.7, []float64{2, 1, 1}, []float64{3, 2, 2}, 4},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := world.Steady(tc.notice, tc.bytes, tc.weight)
			if best, ok := n.Optimum(0, steps); !ok || best != tc.want {
				t.Errorf("Optimum = %v, %v; want %v", best, ok, tc.want)
			}
		})
	}
}

// TestPlannersThatTear shows that the play can tell: who cancels nothing leaves pods half saved.
func TestPlannersThatTear(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	torn := 0
	for range 100 {
		n := world.Draw(r)
		order := make([]int, len(n.Pods))
		for k := range order {
			order[k] = k
		}
		torn += n.InOrder(order, 1).Torn
	}
	if torn == 0 {
		t.Error("nothing is ever torn")
	}
}
