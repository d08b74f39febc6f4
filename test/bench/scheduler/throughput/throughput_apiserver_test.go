// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package throughput_test

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/test/bench/scheduler/throughput"
	"github.com/cryopod/cryopod/test/bench/scheduler/timed"
)

// TestRun is the benchmark in small: each trial checks by itself that every pod was bound, once, by the scheduler that was asked for, that no pod
// restores on a node that can't take it, and that what was timed is the plugin's work. Here, that the numbers are there and of what they say. How
// large they are, or which one is larger, tells nothing on a busy machine.
func TestRun(t *testing.T) {
	self := throughput.Command{Path: os.Args[0], Args: []string{timed.Argument}}
	got, err := throughput.Run(t.Context(), throughput.Options{
		Sizes: []throughput.Size{{Nodes: 50, Pods: 100, Goal: 0.97}}, Mixes: []throughput.Mix{throughput.Plain, throughput.Restoring},
		Runs: 1, TimedPods: 60, Programs: throughput.Programs{Ours: self, Rival: self, Timed: self},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"plugin_per_pod_50_plain", "plugin_per_pod_50_restoring", "plugin_ratio_50_plain", "plugin_ratio_50_restoring",
		"throughput_50_plain", "throughput_50_restoring", "throughput_all_bound_50_plain", "throughput_all_bound_50_restoring",
		"throughput_cpu_per_pod_50_plain", "throughput_cpu_per_pod_50_restoring", "throughput_ratio_50_plain", "throughput_ratio_50_restoring",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Error("metrics (-want +got):", diff)
	}
	for name, m := range got {
		if m.Value <= 0 || m.RivalValue != nil && *m.RivalValue <= 0 || len(m.All) != 1 {
			t.Errorf("%s is %+v", name, m)
		}
	}
}
