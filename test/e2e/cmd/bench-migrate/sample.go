// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/report"
	"github.com/cryopod/cryopod/test/e2e/trial"
)

const (
	rivalFirst = "kubectl drain without Cryopod: first step of the pod that starts cold"
	rivalSame  = "the same workload's cold restart, until it has done the step at which it was drained"
)

// goals are what the issue asks for, in seconds, by MiB.
var goals = map[int]float64{256: 6}

// sample is what was measured for one size; the lists of one kind have one entry a run.
type sample struct {
	// moved is the time from the eviction request to the first step on the other node, in seconds.
	moved []float64
	// coldFirst and coldSame are those of the plain drain: to the first step, and to the step where the pod was.
	coldFirst, coldSame []float64
	lost, repeated      int
	// redone is how many steps the plain drains made the workload do again.
	redone int
}

// measure drains once with Cryopod and once without.
func (s *sample) measure(ctx context.Context, b *bed.Bed, mebibytes int) error {
	t := trial.Trial{Bed: b, Name: "bench", Mebibytes: mebibytes, Steps: settled}
	moved, err := t.Run(ctx)
	if err != nil {
		return err
	}
	if err := t.Remove(ctx, moved); err != nil {
		return err
	}
	t.Plain = true
	cold, err := t.Run(ctx)
	if err != nil {
		return err
	}
	if err := t.Remove(ctx, cold); err != nil {
		return err
	}
	if first := moved.Verdict.Moves[0].First.Step; first <= 1 {
		return fmt.Errorf("the pod with the annotation started from step %d", first)
	}
	s.moved = append(s.moved, since(moved, moved.Verdict.Moves[0].First.Time))
	s.coldFirst = append(s.coldFirst, since(cold, cold.Verdict.Moves[0].First.Time))
	s.coldSame = append(s.coldSame, since(cold, cold.SameStep))
	s.lost += len(moved.Verdict.Lost)
	s.repeated += len(moved.Verdict.Repeated)
	s.redone += len(cold.Verdict.Repeated)
	return nil
}

func since(r *trial.Result, t time.Time) float64 {
	return t.Sub(r.Observations.Requested).Seconds()
}

func (s *sample) last() string {
	i := len(s.moved) - 1
	return fmt.Sprintf("moved in %.2f s; plain drain: first step after %.2f s, same step after %.2f s",
		s.moved[i], s.coldFirst[i], s.coldSame[i])
}

func compile(o options, sizes []int, samples map[int]*sample) report.Report {
	r := report.Report{
		Name: "migrate", Machine: report.Machine(), Runs: o.runs, Metrics: map[string]report.Metric{},
		Command: fmt.Sprintf("make bench-migrate (sizes %s MiB, drained after %d steps of 50 ms)", o.sizes, settled),
	}
	var lost, repeated, redone int
	for _, size := range sizes {
		s := samples[size]
		lost, repeated, redone = lost+s.lost, repeated+s.repeated, redone+s.redone
		median := seconds(report.Median(s.moved))
		median.All = s.moved
		if goal, ok := goals[size]; ok {
			median.Goal = ptr.To(goal)
		}
		name := fmt.Sprintf("%d_mib", size)
		r.Metrics["first_step_median_"+name] = median.Against(rivalFirst, report.Median(s.coldFirst))
		same := median.Against(rivalSame, report.Median(s.coldSame))
		same.All = nil
		r.Metrics["same_step_median_"+name] = same
		r.Metrics["first_step_max_"+name] = seconds(slices.Max(s.moved)).Against(rivalFirst, slices.Max(s.coldFirst))
	}
	r.Metrics["steps_lost"] = report.Metric{Value: float64(lost), Unit: "steps", Goal: ptr.To(0.0), Better: "lower"}
	r.Metrics["steps_repeated"] = report.Metric{Value: float64(repeated), Unit: "steps", Goal: ptr.To(0.0), Better: "lower"}.
		Against("kubectl drain without Cryopod", float64(redone))
	return r
}

func seconds(value float64) report.Metric {
	return report.Metric{Value: value, Unit: "s", Better: "lower"}
}

// table is what docs/migrate.md quotes.
func table(sizes []int, samples map[int]*sample) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| memory | Cryopod: first step | plain drain: first step, from zero | plain drain: back at the same step | steps lost / repeated |")
	fmt.Fprintln(&b, "|---|---|---|---|---|")
	for _, size := range sizes {
		s := samples[size]
		fmt.Fprintf(&b, "| %d MiB | %s | %s | %s | %d / %d |\n", size, both(s.moved), both(s.coldFirst), both(s.coldSame), s.lost, s.repeated)
	}
	return b.String()
}

func both(values []float64) string {
	return fmt.Sprintf("%.2f s (max %.2f)", report.Median(values), slices.Max(values))
}
