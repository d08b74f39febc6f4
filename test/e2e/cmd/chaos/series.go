// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/test/e2e/chaos"
	"github.com/cryopod/cryopod/test/e2e/chaos/check"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// series is what came of the runs.
type series struct {
	options
	results []*chaos.Result
	// broken are the runs that could not be judged.
	broken []brokenRun
}

// brokenRun is one that gave nothing to judge.
type brokenRun struct {
	Seed  uint64 `json:"seed"`
	Error string `json:"error"`
}

// failedRun is one that broke a promise.
type failedRun struct {
	Seed       uint64            `json:"seed"`
	Plan       string            `json:"plan"`
	Violations []check.Violation `json:"violations"`
}

// result is the report, with what has no number.
type result struct {
	report.Report
	FirstSeed uint64         `json:"firstSeed,omitempty"`
	Faults    map[string]int `json:"faults"`
	Triggers  map[string]int `json:"triggers"`
	Failed    []failedRun    `json:"failed"`
	Broken    []brokenRun    `json:"broken,omitempty"`
}

// attack makes the runs, one after the other. A run that could not be made is no reason not to make the next one, but three in a row are.
func (s *series) attack(ctx context.Context, engine *chaos.Engine, mark dirty) error {
	began := time.Now()
	inRow := 0
	for i := range s.runs {
		if ctx.Err() != nil || s.duration > 0 && time.Since(began) > s.duration {
			break
		}
		seed := s.seed + uint64(i)
		if err := mark.make(); err != nil {
			return err
		}
		r, err := engine.Run(ctx, seed)
		if ctx.Err() != nil {
			return fmt.Errorf("making the run of seed %d: %w", seed, ctx.Err())
		}
		if err != nil {
			s.broken = append(s.broken, brokenRun{seed, err.Error()})
			fmt.Printf("%s run %d of %d, seed %d: not made: %v\n", time.Now().Format(time.TimeOnly), i+1, s.runs, seed, err)
			if inRow++; inRow == 3 {
				return fmt.Errorf("three runs in a row could not be made, the last one: %w", err)
			}
			continue
		}
		inRow = 0
		s.results = append(s.results, r)
		fmt.Printf("%s run %d of %d, %s\n", time.Now().Format(time.TimeOnly), i+1, s.runs, describe(r))
		if err := mark.remove(); err != nil {
			return err
		}
	}
	return nil
}

// collected writes the report of runs that were made before.
func (s *series) collected(folders []string) error {
	for _, f := range folders {
		results, err := chaos.Results(f)
		if err != nil {
			return err
		}
		s.results = append(s.results, results...)
	}
	if len(s.results) == 0 {
		return fmt.Errorf("collecting the runs of %q: there are none", folders)
	}
	return s.write()
}

// write writes the report, and tells whether anything was wrong.
func (s *series) write() error {
	if err := report.Write(s.out, s.report()); err != nil {
		return err
	}
	fmt.Printf("\n%s\nwritten to %s\n", s.summary(), s.out)
	return s.err()
}

// describe tells a run in a line, and its violations in one each.
func describe(r *chaos.Result) string {
	var b strings.Builder
	var outcomes []string
	var silence time.Duration
	for _, p := range r.Verdict.Pods {
		outcomes = append(outcomes, string(p.Outcome))
		silence = max(silence, p.Silence)
	}
	fmt.Fprintf(&b, "seed %d: %s, still for %.1f s at most, %.0f s in all (%v; made: %s)", r.Plan.Seed, strings.Join(outcomes, ", "),
		silence.Seconds(), r.Took.Seconds(), r.Plan, strings.Join(r.Faults, ", "))
	for _, v := range r.Verdict.Violations {
		fmt.Fprintf(&b, "\n    VIOLATION of %v", v)
	}
	return b.String()
}

func (s *series) report() result {
	command := fmt.Sprintf("make chaos SEED=%d RUNS=%d", s.seed, s.runs)
	if s.collect != "" {
		command = "make chaos, several series collected by --collect"
	}
	r := result{
		Report: report.Report{
			Name: "chaos", Machine: report.Machine(), Runs: len(s.results), Metrics: map[string]report.Metric{},
			Command: command,
		},
		FirstSeed: s.seed, Faults: map[string]int{}, Triggers: map[string]int{}, Failed: []failedRun{}, Broken: s.broken,
	}
	violations, outcomes := map[check.Invariant]float64{}, map[check.Outcome]float64{}
	var silence, recovery, held []float64
	for _, run := range s.results {
		r.Triggers[string(run.Plan.Trigger)]++
		for _, f := range run.Faults {
			r.Faults[f]++
		}
		for _, v := range run.Verdict.Violations {
			violations[v.Invariant]++
		}
		if run.Failed() {
			r.Failed = append(r.Failed, failedRun{run.Plan.Seed, run.Plan.String(), run.Verdict.Violations})
		}
		for _, p := range run.Verdict.Pods {
			outcomes[p.Outcome]++
			silence, recovery = append(silence, p.Silence.Seconds()), append(recovery, p.Recovery.Seconds())
		}
		held = append(held, run.Verdict.Held.Seconds())
	}
	for _, i := range check.Invariants {
		r.Metrics["violations_"+strings.ReplaceAll(i.String(), " ", "_")] = report.Metric{
			Value: violations[i], Unit: "violations", Goal: ptr.To(0.0), Better: "lower",
		}
	}
	for _, o := range []check.Outcome{check.Restored, check.Rewound, check.Cold, check.Stayed, check.Lost} {
		better := "lower"
		if o == check.Restored || o == check.Rewound {
			better = "higher"
		}
		r.Metrics["pods_"+string(o)] = report.Metric{Value: outcomes[o], Unit: "pods", Better: better}
	}
	spread(r.Metrics, "silence", silence)
	spread(r.Metrics, "running_again_after_the_last_fault", recovery)
	spread(r.Metrics, "longest_held_request", held)
	return r
}

// spread puts a value's percentiles into the report, if there is any.
func spread(metrics map[string]report.Metric, name string, values []float64) {
	if len(values) == 0 {
		return
	}
	sorted := slices.Sorted(slices.Values(values))
	for key, share := range map[string]float64{"p50": 0.5, "p95": 0.95, "max": 1} {
		at := min(int(share*float64(len(sorted))), len(sorted)-1)
		metrics[name+"_"+key] = report.Metric{Value: sorted[at], Unit: "s", Better: "lower"}
	}
}

// summary tells the series for people.
func (s *series) summary() string {
	r := s.report()
	var b strings.Builder
	var made int
	for _, n := range r.Faults {
		made += n
	}
	fmt.Fprintf(&b, "%s: %d runs, %d faults made, %d runs with violations, %d not made\n",
		r.Command, len(s.results), made, len(r.Failed), len(s.broken))
	report.Print(&b, r.Metrics)
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "  failed: seed %d (%s)\n", f.Seed, f.Plan)
	}
	return b.String()
}

// err tells whether anything was wrong.
func (s *series) err() error {
	failed := len(s.report().Failed)
	if failed+len(s.broken) > 0 {
		return fmt.Errorf("of %d runs %d broke a promise, and %d could not be made", len(s.results)+len(s.broken), failed, len(s.broken))
	}
	return nil
}
