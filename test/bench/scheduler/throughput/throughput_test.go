// SPDX-License-Identifier: Apache-2.0

package throughput_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/bench/scheduler/throughput"
)

// bound are pods that are bound at these intervals.
func bound(pods int, every time.Duration) []time.Time {
	all := make([]time.Time, pods)
	for i := range all {
		all[i] = time.Unix(0, 0).Add(time.Duration(i) * every)
	}
	return all
}

func TestTrial(t *testing.T) {
	even := bound(100, 10*time.Millisecond)
	// What comes before the first measured pod and after the last one is not measured.
	uneven := bound(100, 10*time.Millisecond)
	uneven[0], uneven[99] = time.Unix(-60, 0), time.Unix(60, 0)
	for name, times := range map[string][]time.Time{"even": even, "slow at first and last": uneven} {
		trial := throughput.Trial{Bound: times, CPU: 89 * 3 * time.Millisecond}
		if got := trial.Rate(); got < 99.9 || got > 100.1 {
			t.Errorf("%s: %f pods a second, want 100", name, got)
		}
		if got := trial.PerPod(); got != 3*time.Millisecond {
			t.Errorf("%s: %s of CPU for each pod, want 3ms", name, got)
		}
	}
}

func TestPlugin(t *testing.T) {
	trial := throughput.Trial{Bound: bound(10, time.Second), Metrics: `
bench_plugin_nanoseconds_total{plugin="A",point="Score"} 9000
bench_plugin_nanoseconds_total{plugin="A",point="Filter"} 2000
bench_plugin_nanoseconds_total{plugin="B",point="Score"} 50
bench_plugin_calls_total{plugin="A",point="Score"} 9
bench_plugin_calls_total{plugin="A",point="Filter"} 1
bench_plugin_calls_total{plugin="B",point="Score"} 1
bench_stopwatch_nanoseconds 100
`}
	if got := trial.Plugin("A"); got != 1000*time.Nanosecond {
		t.Errorf("A takes %s for each pod, want 1µs", got)
	}
	if got := trial.Plugin("B"); got != 0 {
		t.Errorf("B takes %s, less than its stopwatch, want 0", got)
	}
}

func TestCheck(t *testing.T) {
	attempts := func(n int) string { return fmt.Sprintf(`scheduler_schedule_attempts_total{result="scheduled"} %d`, n) }
	const node, old, another = "node-00003", "node-00004", "node-3"
	for name, tc := range map[string]struct {
		trial     throughput.Trial
		scheduler string
		mix       throughput.Mix
		// want is part of the error, empty where there is none.
		want string
	}{
		"as it should be":         {throughput.Trial{Bound: bound(2, 1), Nodes: map[int]string{0: node, 1: old}, Metrics: attempts(2)}, v1alpha1.SchedulerName, throughput.Restoring, ""},
		"not told of":             {throughput.Trial{Bound: bound(2, 1), Nodes: map[int]string{0: node, 1: node}, Metrics: attempts(1)}, v1alpha1.SchedulerName, throughput.Plain, "tells of 1 pods, 2 are bound"},
		"gone":                    {throughput.Trial{Bound: bound(2, 1), Nodes: map[int]string{0: node}, Metrics: attempts(2)}, v1alpha1.SchedulerName, throughput.Plain, "1 are there"},
		"nowhere":                 {throughput.Trial{Bound: bound(1, 1), Nodes: map[int]string{0: ""}, Metrics: attempts(1)}, v1alpha1.SchedulerName, throughput.Plain, `pod 0 is on ""`},
		"elsewhere":               {throughput.Trial{Bound: bound(1, 1), Nodes: map[int]string{0: another}, Metrics: attempts(1)}, v1alpha1.SchedulerName, throughput.Plain, `pod 0 is on "node-3"`},
		"where it can't":          {throughput.Trial{Bound: bound(1, 1), Nodes: map[int]string{0: old}, Metrics: attempts(1)}, v1alpha1.SchedulerName, throughput.Restoring, "whose CPU lacks"},
		"the rival does not know": {throughput.Trial{Bound: bound(1, 1), Nodes: map[int]string{0: old}, Metrics: attempts(1)}, "default-scheduler", throughput.Restoring, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.trial.Check(tc.scheduler, tc.mix)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestCheckScored has ImageLocality score nodes always: only the plugin's own calls count.
func TestCheckScored(t *testing.T) {
	const idle = `
bench_plugin_calls_total{plugin="TimedImageLocality",point="Score"} 9
bench_plugin_calls_total{plugin="CheckpointLocality",point="PreFilter"} 9
`
	const busy = idle + `bench_plugin_calls_total{plugin="CheckpointLocality",point="Score"} 9`
	for mix, want := range map[throughput.Mix]string{throughput.Plain: idle, throughput.Fresh: busy, throughput.Restoring: busy} {
		for _, metrics := range []string{idle, busy} {
			if err := (throughput.Trial{Metrics: metrics}).CheckScored(mix); (err == nil) != (metrics == want) {
				t.Errorf("%s pods: got %v with%s", mix, err, metrics)
			}
		}
	}
}

func TestReportPairs(t *testing.T) {
	at := func(every time.Duration) throughput.Trial {
		return throughput.Trial{Bound: bound(100, every), CPU: time.Second}
	}
	// The machine was slower in the second run, for both: the ratio stays.
	got := throughput.ReportPairs(0.97, at(20*time.Millisecond), at(10*time.Millisecond), at(40*time.Millisecond), at(20*time.Millisecond))
	ratio := got["throughput_ratio_x"]
	if len(ratio.All) != 2 || ratio.Value < 0.499 || ratio.Value > 0.501 || *ratio.Goal != 0.97 || ratio.Better != "higher" {
		t.Errorf("ratio %+v", ratio)
	}
	rate := got["throughput_x"]
	if rate.Value < 37.4 || rate.Value > 37.6 || rate.RivalValue == nil || *rate.RivalValue < 74.9 || *rate.RivalValue > 75.1 {
		t.Errorf("throughput %+v", rate)
	}
}

func TestReplaceImageLocality(t *testing.T) {
	profile := func(text string) map[string]any {
		config := map[string]any{}
		if err := yaml.Unmarshal([]byte(text), &config); err != nil {
			t.Fatal(err)
		}
		return config
	}
	want := profile(`profiles: [{schedulerName: cryopod-scheduler, plugins: {multiPoint: {
		enabled: [{name: CheckpointLocality, weight: 2}, {name: TimedImageLocality, weight: 1}], disabled: [{name: ImageLocality}]}}}]`)
	for _, shipped := range []string{"", ", disabled: [{name: ImageLocality}]"} {
		got := profile(`profiles: [{schedulerName: cryopod-scheduler, plugins: {multiPoint: {enabled: [{name: CheckpointLocality, weight: 2}]` + shipped + `}}}]`)
		if err := throughput.ReplaceImageLocality(got); err != nil {
			t.Fatal(err)
		}
		text, err := yaml.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, profile(string(text))); diff != "" {
			t.Error("(-want +got):", diff)
		}
	}
	for _, wrong := range []string{`{}`, `profiles: [{schedulerName: x}]`, `profiles: [{schedulerName: cryopod-scheduler}]`} {
		if err := throughput.ReplaceImageLocality(profile(wrong)); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}

func TestMixes(t *testing.T) {
	const scheduler = "some-scheduler"
	for mix, want := range map[throughput.Mix][2]int{throughput.Plain: {0, 0}, throughput.Fresh: {100, 0}, throughput.Restoring: {100, 10}} {
		optedIn, restoring, names := 0, 0, map[string]bool{}
		for i := range 100 {
			pod := mix.Pod(i, scheduler)
			names[pod.Name] = true
			if pod.Annotations[v1alpha1.AnnotationEnabled] != "" {
				optedIn++
			}
			if pod.Annotations[v1alpha1.AnnotationRestoreFrom] != "" {
				restoring++
			}
			if pod.Spec.SchedulerName != scheduler || pod.Spec.NodeName != "" {
				t.Fatalf("%s: pod %d asks for %q and is on %q", mix, i, pod.Spec.SchedulerName, pod.Spec.NodeName)
			}
		}
		if optedIn != want[0] || restoring != want[1] || len(names) != 100 {
			t.Errorf("%s: of %d pods %d are opted in and %d restore, want %v", mix, len(names), optedIn, restoring, want)
		}
	}
}
