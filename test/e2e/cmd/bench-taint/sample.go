// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/evacuation"
	"github.com/cryopod/cryopod/test/e2e/recorder"
	"github.com/cryopod/cryopod/test/e2e/report"
)

const rival = "the same pods evicted one after the other in the order of their making, each when the former one is durable"

// marks are the times after the notice at which what is durable is counted; the last is the node's end.
var marks = []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second, evacuation.Notice}

// sample is what was measured of one way to leave, one entry a run.
type sample struct {
	name  string
	leave func(context.Context, evacuation.Departure) error
	runs  [][]evacuation.Pod
}

func (s *sample) measure(ctx context.Context, b *bed.Bed, sizes []int) error {
	e := evacuation.Evacuation{Bed: b, From: b.Cluster.Nodes()[0].Name(), Mebibytes: sizes, Leave: s.leave}
	pods, err := e.Run(ctx)
	if err != nil {
		return err
	}
	s.runs = append(s.runs, pods)
	return nil
}

// each is a number of every run.
func (s *sample) each(number func([]evacuation.Pod) float64) []float64 {
	values := make([]float64, len(s.runs))
	for i, pods := range s.runs {
		values[i] = number(pods)
	}
	return values
}

// sum adds up a number of the pods that were durable by then.
func sum(by time.Duration, number func(evacuation.Pod) float64) func([]evacuation.Pod) float64 {
	return func(pods []evacuation.Pod) float64 {
		var total float64
		for _, p := range pods {
			if p.Durable != nil && *p.Durable <= by {
				total += number(p)
			}
		}
		return total
	}
}

func one(evacuation.Pod) float64         { return 1 }
func value(p evacuation.Pod) float64     { return float64(p.Value) }
func mebibytes(p evacuation.Pod) float64 { return float64(p.Mebibytes) }

// mean is how long after the notice the pods were durable, on average; one that was not by the end counts as the whole notice.
func mean(pods []evacuation.Pod) float64 {
	var total float64
	for _, p := range pods {
		total += min(ptr.Deref(p.Durable, evacuation.Notice), evacuation.Notice).Seconds()
	}
	return total / float64(len(pods))
}

// last is when the last pod was durable, at most the whole notice.
func last(pods []evacuation.Pod) float64 {
	var latest time.Duration
	for _, p := range pods {
		latest = max(latest, min(ptr.Deref(p.Durable, evacuation.Notice), evacuation.Notice))
	}
	return latest.Seconds()
}

// downtime is how long the pods stood still in the middle.
func downtime(pods []evacuation.Pod) float64 {
	var all []float64
	for _, p := range pods {
		all = append(all, p.Downtime.Seconds())
	}
	return report.Median(all)
}

// lost and repeated count the steps of the pods that were restored; one that starts cold does all of its steps again.
func lost(pods []evacuation.Pod) float64 {
	return steps(pods, func(v recorder.Verdict) int { return len(v.Lost) })
}

func repeated(pods []evacuation.Pod) float64 {
	return steps(pods, func(v recorder.Verdict) int { return len(v.Repeated) })
}

func steps(pods []evacuation.Pod, count func(recorder.Verdict) int) float64 {
	n := 0
	for _, p := range pods {
		if p.Phase == v1alpha1.PhaseRestored {
			n += count(p.Verdict)
		}
	}
	return float64(n)
}

// last tells of the latest run.
func (s *sample) last() string {
	var durable []string
	for _, p := range s.runs[len(s.runs)-1] {
		when := fmt.Sprintf("never (%s: %s)", p.Phase, p.Message)
		if p.Durable != nil {
			when = fmt.Sprintf("%.1f s", p.Durable.Seconds())
		}
		durable = append(durable, fmt.Sprintf("%d MiB %s", p.Mebibytes, when))
	}
	return "durable after " + strings.Join(durable, ", ")
}

// row is one number of both ways.
type row struct {
	key, title, unit, better string
	number                   func([]evacuation.Pod) float64
}

func rows() []row {
	var all []row
	for _, m := range marks {
		all = append(all, row{
			key: fmt.Sprintf("pods_durable_after_%d_s", int(m.Seconds())), title: fmt.Sprintf("pods durable %d s after the notice", int(m.Seconds())),
			unit: "pods", better: "higher", number: sum(m, one),
		})
	}
	return append(all,
		row{"value_durable_at_the_end", "value durable at the end of the notice", "checkpoint.io/value", "higher", sum(evacuation.Notice, value)},
		row{"memory_durable_at_the_end", "memory durable at the end of the notice", "MiB", "higher", sum(evacuation.Notice, mebibytes)},
		row{"mean_time_to_durable", "time until a pod is durable, mean of all", "s", "lower", mean},
		row{"all_durable", "time until all are durable", "s", "lower", last},
		row{"downtime_median", "downtime of the pod in the middle", "s", "lower", downtime},
	)
}

func compile(o options, planned, oneByOne *sample) report.Report {
	r := report.Report{
		Name: "taint", Machine: report.Machine(), Runs: o.runs, Metrics: map[string]report.Metric{},
		Command: fmt.Sprintf("make bench-taint (%d pods of %d MiB and one of %d MiB, notice of %v)", o.count, o.small, o.large, evacuation.Notice),
	}
	for _, row := range rows() {
		ours := planned.each(row.number)
		r.Metrics[row.key] = report.Metric{Value: report.Median(ours), Unit: row.unit, Better: row.better, All: ours}.
			Against(rival, report.Median(oneByOne.each(row.number)))
	}
	for key, number := range map[string]func([]evacuation.Pod) float64{"steps_lost": lost, "steps_repeated": repeated} {
		all := planned.each(number)
		r.Metrics[key] = report.Metric{Value: total(all), Unit: "steps", Goal: ptr.To(0.0), Better: "lower", All: all}.
			Against(rival, total(oneByOne.each(number)))
	}
	return r
}

func total(values []float64) float64 {
	var t float64
	for _, v := range values {
		t += v
	}
	return t
}

// table is what docs/planning.md quotes.
func table(planned, oneByOne *sample) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| median (lowest to highest) | planned | one after the other |")
	fmt.Fprintln(&b, "|---|---|---|")
	for _, row := range rows() {
		fmt.Fprintf(&b, "| %s, %s | %s | %s |\n", row.title, row.unit, spread(planned.each(row.number)), spread(oneByOne.each(row.number)))
	}
	fmt.Fprintf(&b, "| steps of restored pods lost / repeated | %.0f / %.0f | %.0f / %.0f |\n",
		total(planned.each(lost)), total(planned.each(repeated)), total(oneByOne.each(lost)), total(oneByOne.each(repeated)))
	return b.String()
}

func spread(values []float64) string {
	return fmt.Sprintf("%.4g (%.4g to %.4g)", report.Median(values), slices.Min(values), slices.Max(values))
}
