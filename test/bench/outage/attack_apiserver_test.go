// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"testing"
	"time"

	"github.com/cryopod/cryopod/test/bench/outage/load"
	"github.com/cryopod/cryopod/test/bench/outage/service"
)

// TestAttack is the benchmark in short: what must not happen in ten minutes must not in ten seconds.
func TestAttack(t *testing.T) {
	r, err := Attack(t.Context(), Options{
		Duration: 8 * time.Second, Rate: 10, Replicas: 3, Every: time.Second, Rotations: 5, Lag: 300 * time.Millisecond, Probe: 200 * time.Millisecond,
		Delay: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range r.Complaints() {
		t.Log(line)
	}
	if len(r.Failed) > 0 || len(r.Errors) > 0 {
		t.Errorf("%d creates failed, and %d other requests", len(r.Failed), len(r.Errors))
	}
	if n := r.WrongAnswers(); n > 0 {
		t.Errorf("%v wrong answers", n)
	}
	if n := r.Failures[service.Terminated]; n > 0 {
		t.Errorf("%d requests were lost by replicas that ended in order", n)
	}
	if len(r.Refused) > 0 || len(r.EndErrors) > 0 || len(r.Forbidden) > 0 {
		t.Errorf("%d handshakes refused, %d replicas ended badly, %d requests forbidden", len(r.Refused), len(r.EndErrors), len(r.Forbidden))
	}
	if r.Kills == 0 || r.Terminations == 0 || r.Rotated == 0 || r.Counts[load.OptedIn].Made == 0 || r.Counts[load.Replacement].Restored == 0 {
		t.Errorf("%d kills, %d terminations, %d rotations, %d pods, %d restored: the attack did not take place",
			r.Kills, r.Terminations, r.Rotated, r.Counts[load.OptedIn].Made, r.Counts[load.Replacement].Restored)
	}
}
