// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/evacuation"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

func TestSizes(t *testing.T) {
	cases := map[string]struct {
		o    options
		want [][]int
	}{
		"the large one moves from the first place to the last": {
			o:    options{count: 2, small: 1, large: 9, runs: 3},
			want: [][]int{{9, 1, 1}, {1, 9, 1}, {1, 1, 9}},
		},
		"a single run has it in the middle": {
			o:    options{count: 4, small: 1, large: 9, runs: 1},
			want: [][]int{{1, 1, 9, 1, 1}},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got [][]int
			for i := range c.o.runs {
				got = append(got, c.o.sizes(i))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("sizes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCompile(t *testing.T) {
	pod := func(mebibytes int, durable *time.Duration, phase v1alpha1.Phase, lost int) evacuation.Pod {
		return evacuation.Pod{Mebibytes: mebibytes, Value: 100, Durable: durable, Phase: phase, Verdict: recorder.Verdict{Lost: make([]int64, lost)}}
	}
	planned := &sample{runs: [][]evacuation.Pod{
		{pod(64, ptr.To(3*time.Second), v1alpha1.PhaseRestored, 0), pod(1024, ptr.To(9*time.Second), v1alpha1.PhaseRestored, 0)},
	}}
	oneByOne := &sample{runs: [][]evacuation.Pod{
		// One too late, and one never: what a cold start leaves out or does again does not count.
		{pod(64, ptr.To(31*time.Second), v1alpha1.PhaseRestored, 2), pod(1024, nil, v1alpha1.PhaseFailed, 5)},
	}}
	type number struct{ ours, theirs float64 }
	want := map[string]number{
		"pods_durable_after_2_s": {}, "pods_durable_after_5_s": {1, 0}, "pods_durable_after_10_s": {2, 0}, "pods_durable_after_20_s": {2, 0},
		"pods_durable_after_30_s": {2, 0}, "value_durable_at_the_end": {200, 0}, "memory_durable_at_the_end": {1088, 0},
		"mean_time_to_durable": {6, 30}, "all_durable": {9, 30}, "downtime_median": {}, "steps_lost": {0, 2}, "steps_repeated": {},
	}
	got := map[string]number{}
	for key, m := range compile(options{runs: 1}, planned, oneByOne).Metrics {
		got[key] = number{m.Value, *m.RivalValue}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(number{})); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
