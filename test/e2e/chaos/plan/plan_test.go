// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/chaos/plan"
)

var faults = []string{"a", "b", "c"}

func TestDrawIsTheSameForTheSameSeed(t *testing.T) {
	for seed := range uint64(50) {
		if diff := cmp.Diff(plan.Draw(seed, faults, 2), plan.Draw(seed, faults, 2)); diff != "" {
			t.Errorf("seed %d gives two plans:\n%s", seed, diff)
		}
	}
}

func TestDrawCoversEverything(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(500) {
		p := plan.Draw(seed, faults, 2)
		seen["trigger "+string(p.Trigger)]++
		for _, w := range p.Workloads {
			seen["kind "+string(w.Kind)]++
		}
		for _, s := range p.Strikes {
			seen["fault "+s.Fault]++
			seen["phase "+string(s.Phase)]++
			if s.Length < time.Second || s.Length > 20*time.Second || s.Delay < 0 || s.Delay > 6*time.Second {
				t.Errorf("seed %d strikes out of bounds: %v", seed, s)
			}
		}
		if len(p.Workloads) < 1 || len(p.Workloads) > 3 || len(p.Strikes) < 1 || len(p.Strikes) > 3 || p.Source > 1 {
			t.Errorf("seed %d is out of bounds: %v", seed, p)
		}
		if p.Trigger == plan.Preempt && len(p.Workloads) != 1 {
			t.Errorf("seed %d preempts %d pods that do not fit on one node", seed, len(p.Workloads))
		}
	}
	// 9 triggers, 3 kinds, 3 faults, 7 phases and none.
	if len(seen) != 23 {
		t.Errorf("500 seeds drew %d kinds of things, want 23: %v", len(seen), seen)
	}
}

func TestAllDownComesAlone(t *testing.T) {
	for seed := range uint64(100) {
		p := plan.Draw(seed, []string{"a", plan.AllDown}, 2)
		for _, s := range p.Strikes {
			if s.Fault == plan.AllDown && len(p.Strikes) > 1 {
				t.Errorf("seed %d takes all of Cryopod away beside other faults: %v", seed, p)
			}
		}
	}
}

func TestReached(t *testing.T) {
	cases := map[string]struct {
		now, wanted v1alpha1.Phase
		want        bool
	}{
		"new":                            {"", v1alpha1.PhasePending, true},
		"not yet":                        {v1alpha1.PhaseDumping, v1alpha1.PhaseExporting, false},
		"there":                          {v1alpha1.PhaseReady, v1alpha1.PhaseReady, true},
		"passed by":                      {v1alpha1.PhaseReady, v1alpha1.PhaseDumping, true},
		"failed, so it was begun":        {v1alpha1.PhaseFailed, v1alpha1.PhaseFreezing, true},
		"failed, so it never gets there": {v1alpha1.PhaseFailed, v1alpha1.PhaseReady, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := plan.Reached(c.now, c.wanted); got != c.want {
				t.Errorf("Reached(%q, %q) = %v, want %v", c.now, c.wanted, got, c.want)
			}
		})
	}
}
