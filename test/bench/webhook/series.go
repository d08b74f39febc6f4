// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"time"

	"github.com/cryopod/cryopod/test/bench/webhook/load"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// series has the quantiles of each round, by name. The zero value has none.
type series map[string]*quantiles

type quantiles struct{ p50, p99 []float64 }

func (s *series) add(name string, took []time.Duration) {
	if *s == nil {
		*s = series{}
	}
	if (*s)[name] == nil {
		(*s)[name] = &quantiles{}
	}
	q := (*s)[name]
	q.p50 = append(q.p50, milliseconds(load.Quantile(took, 0.5)))
	q.p99 = append(q.p99, milliseconds(load.Quantile(took, 0.99)))
}

// into makes metrics of the medians of all rounds, with a goal for p99.
func (s series) into(metrics map[string]report.Metric, prefix string, goal float64) {
	for name, q := range s {
		if name != "" {
			name = "_" + name
		}
		p99 := median(q.p99)
		p99.Goal = &goal
		metrics[prefix+name+"_p50"], metrics[prefix+name+"_p99"] = median(q.p50), p99
	}
}

func median(values []float64) report.Metric {
	return report.Metric{Value: report.Median(values), Unit: "ms", Better: "lower", All: slices.Clone(values)}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
