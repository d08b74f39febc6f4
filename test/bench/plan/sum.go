// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/cryopod/cryopod/test/e2e/report"
)

// tally is what came of all nodes: shares of a node, and counts.
type tally struct {
	saved, arrival, small                      []float64 // of all that there was
	ofOptimum, arrivalOf, smallOf              []float64 // of small nodes
	scarce, calm                               []float64 // of those of them that can't save all
	ofBound                                    []float64 // of large nodes
	torn, arrivalTorn, smallTorn, ended, given int
}

func count(all []played) tally {
	var t tally
	for _, p := range all {
		t.torn += p.ours.Torn
		t.arrivalTorn += p.arrival.Torn
		t.smallTorn += p.small.Torn
		t.ended += p.ours.Ended
		t.saved = append(t.saved, p.ours.Saved/p.total)
		t.arrival = append(t.arrival, p.arrival.Saved/p.total)
		t.small = append(t.small, p.small.Saved/p.total)
		if p.calmScarce {
			t.calm = append(t.calm, p.calm)
		}
		switch {
		case p.solved && p.optimum > 0:
			t.ofOptimum = append(t.ofOptimum, p.ours.Saved/p.optimum)
			t.arrivalOf = append(t.arrivalOf, p.arrival.Saved/p.optimum)
			t.smallOf = append(t.smallOf, p.small.Saved/p.optimum)
			if p.scarce {
				t.scarce = append(t.scarce, p.ours.Saved/p.optimum)
			}
		case p.searched && !p.solved:
			t.given++
		case !p.searched:
			t.ofBound = append(t.ofBound, p.ours.Saved/p.bound)
		}
	}
	slices.Sort(t.ofOptimum)
	slices.Sort(t.scarce)
	return t
}

// The rivals.
const (
	oneByOne = "one after the other, as they came"
	smallest = "the smallest first, as many at once"
)

// sum makes the report's metrics. Shares of a node are averaged over nodes, each counting the same. What was not measured is left out.
func sum(all []played, took timing) map[string]report.Metric {
	t := count(all)
	metrics := map[string]report.Metric{
		"saved":                  share(t.saved).Against(oneByOne, mean(t.arrival)),
		"saved_beside":           share(t.saved).Against(smallest, mean(t.small)),
		"torn":                   goal(number(t.torn, "pods").Against(oneByOne, float64(t.arrivalTorn)), 0),
		"torn_beside":            number(t.torn, "pods").Against(smallest, float64(t.smallTorn)),
		"ended_per_node":         {Value: float64(t.ended) / float64(len(all)), Unit: "pods", Better: "lower"},
		"small_unsolved":         number(t.given, "nodes"),
		"plan_250_pods_p50":      goal(milliseconds(took.wall, 0.5), 10),
		"plan_250_pods_p99":      goal(milliseconds(took.wall, 0.99), 10),
		"plan_250_pods_core_p50": goal(milliseconds(took.core, 0.5), 10),
		"plan_250_pods_core_p99": goal(milliseconds(took.core, 0.99), 10),
		"plan_250_pods_core_max": milliseconds(took.core, 1),
	}
	if len(t.ofOptimum) > 0 {
		metrics["small_of_optimum"] = goal(share(t.ofOptimum).Against(oneByOne, mean(t.arrivalOf)), 0.95)
		metrics["small_of_optimum_beside"] = share(t.ofOptimum).Against(smallest, mean(t.smallOf))
		metrics["small_of_optimum_p1"] = report.Metric{Value: quantile(t.ofOptimum, 0.01), Unit: "of 1", Better: "higher"}
		metrics["small_of_optimum_min"] = report.Metric{Value: t.ofOptimum[0], Unit: "of 1", Better: "higher"}
		metrics["small_solved"] = report.Metric{Value: float64(len(t.ofOptimum)), Unit: "nodes", Better: "higher"}
	}
	if len(t.scarce) > 0 {
		metrics["scarce_of_optimum"] = goal(share(t.scarce), 0.95)
		metrics["scarce_of_optimum_p1"] = report.Metric{Value: quantile(t.scarce, 0.01), Unit: "of 1", Better: "higher"}
		metrics["scarce_solved"] = report.Metric{Value: float64(len(t.scarce)), Unit: "nodes", Better: "higher"}
	}
	if len(t.calm) > 0 {
		metrics["scarce_calm_of_optimum"] = share(t.calm)
	}
	if len(t.ofBound) > 0 {
		metrics["large_of_bound"] = share(t.ofBound)
	}
	return metrics
}

func share(values []float64) report.Metric {
	return report.Metric{Value: mean(values), Unit: "of 1", Better: "higher"}
}

func number(n int, unit string) report.Metric {
	return report.Metric{Value: float64(n), Unit: unit, Better: "lower"}
}

func milliseconds(sorted []float64, q float64) report.Metric {
	return report.Metric{Value: quantile(sorted, q), Unit: "ms", Better: "lower"}
}

func goal(m report.Metric, g float64) report.Metric {
	m.Goal = &g
	return m
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(len(values), 1))
}

// quantile is of sorted values.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
