// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/cryopod/cryopod/test/e2e/report"
)

// sum makes the report's metrics. Shares of a node are averaged over nodes, each counting the same.
func sum(all []played, took timing) map[string]report.Metric {
	var ofOptimum, scarce, calm, arrivalOf, smallOf, ofBound, saved, arrival, small []float64
	torn, arrivalTorn, smallTorn, ended, unsolved := 0, 0, 0, 0, 0
	for _, p := range all {
		torn += p.ours.Torn
		arrivalTorn += p.arrival.Torn
		smallTorn += p.small.Torn
		ended += p.ours.Ended
		saved = append(saved, p.ours.Saved/p.total)
		arrival = append(arrival, p.arrival.Saved/p.total)
		small = append(small, p.small.Saved/p.total)
		if p.calmScarce {
			calm = append(calm, p.calm)
		}
		switch {
		case p.solved && p.optimum > 0:
			ofOptimum = append(ofOptimum, p.ours.Saved/p.optimum)
			arrivalOf = append(arrivalOf, p.arrival.Saved/p.optimum)
			smallOf = append(smallOf, p.small.Saved/p.optimum)
			if p.scarce {
				scarce = append(scarce, p.ours.Saved/p.optimum)
			}
		case p.searched && !p.solved:
			unsolved++
		case !p.searched:
			ofBound = append(ofBound, p.ours.Saved/p.bound)
		}
	}
	share := func(values []float64) report.Metric {
		return report.Metric{Value: mean(values), Unit: "of 1", Better: "higher"}
	}
	number := func(n int, unit string) report.Metric {
		return report.Metric{Value: float64(n), Unit: unit, Better: "lower"}
	}
	goal := func(m report.Metric, g float64) report.Metric { m.Goal = &g; return m }
	metrics := map[string]report.Metric{
		"saved":                  share(saved).Against("one after the other, as they came", mean(arrival)),
		"saved_beside":           share(saved).Against("the smallest first, as many at once", mean(small)),
		"torn":                   goal(number(torn, "pods").Against("one after the other, as they came", float64(arrivalTorn)), 0),
		"torn_beside":            number(torn, "pods").Against("the smallest first, as many at once", float64(smallTorn)),
		"ended_per_node":         {Value: float64(ended) / float64(len(all)), Unit: "pods", Better: "lower"},
		"small_unsolved":         number(unsolved, "nodes"),
		"plan_250_pods_p50":      goal(report.Metric{Value: quantile(took.wall, 0.5), Unit: "ms", Better: "lower"}, 10),
		"plan_250_pods_p99":      goal(report.Metric{Value: quantile(took.wall, 0.99), Unit: "ms", Better: "lower"}, 10),
		"plan_250_pods_core_p50": goal(report.Metric{Value: quantile(took.core, 0.5), Unit: "ms", Better: "lower"}, 10),
		"plan_250_pods_core_p99": goal(report.Metric{Value: quantile(took.core, 0.99), Unit: "ms", Better: "lower"}, 10),
		"plan_250_pods_core_max": {Value: quantile(took.core, 1), Unit: "ms", Better: "lower"},
	}
	if len(ofOptimum) > 0 {
		slices.Sort(ofOptimum)
		metrics["small_of_optimum"] = goal(share(ofOptimum).Against("one after the other, as they came", mean(arrivalOf)), 0.95)
		metrics["small_of_optimum_beside"] = share(ofOptimum).Against("the smallest first, as many at once", mean(smallOf))
		metrics["small_of_optimum_p1"] = report.Metric{Value: quantile(ofOptimum, 0.01), Unit: "of 1", Better: "higher"}
		metrics["small_of_optimum_min"] = report.Metric{Value: ofOptimum[0], Unit: "of 1", Better: "higher"}
		metrics["small_solved"] = report.Metric{Value: float64(len(ofOptimum)), Unit: "nodes", Better: "higher"}
	}
	if len(scarce) > 0 {
		slices.Sort(scarce)
		metrics["scarce_of_optimum"] = goal(share(scarce), 0.95)
		metrics["scarce_of_optimum_p1"] = report.Metric{Value: quantile(scarce, 0.01), Unit: "of 1", Better: "higher"}
		metrics["scarce_solved"] = report.Metric{Value: float64(len(scarce)), Unit: "nodes", Better: "higher"}
	}
	if len(calm) > 0 {
		metrics["scarce_calm_of_optimum"] = share(calm)
	}
	if len(ofBound) > 0 {
		metrics["large_of_bound"] = share(ofBound)
	}
	return metrics
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
