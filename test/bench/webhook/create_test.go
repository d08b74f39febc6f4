// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"github.com/cryopod/cryopod/test/e2e/report"
)

// TestSum has a machine that gets slower from round to round: what the webhook adds is the same in each.
func TestSum(t *testing.T) {
	var took series
	for round := range 3 {
		base := time.Duration(10*(round+1)) * time.Millisecond
		took.add(without.name, []time.Duration{base})
		took.add(plain.name, []time.Duration{base})
		took.add(optedIn.name, []time.Duration{base + 3*time.Millisecond})
	}
	metrics := map[string]report.Metric{}
	(&creation{}).sum(took, map[string]float64{optedIn.name: 60}, 30, metrics)
	for name, want := range map[string]float64{
		"create_without_p50": 20, "create_not_opted_in_added_p50": 0, "create_opted_in_added_p50": 3, "create_opted_in_added_p99": 3,
		"create_opted_in_p99": 23, "create_not_opted_in_calls": 0, "create_opted_in_calls": 2,
	} {
		if got := metrics[name].Value; got != want {
			t.Errorf("%s = %g, want %g", name, got, want)
		}
	}
	if r := metrics["create_opted_in_p50"].RivalValue; r == nil || *r != 20 {
		t.Errorf("the rival's p50 is %v, want 20", r)
	}
}
