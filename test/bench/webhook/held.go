// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/webhook/crowd"
	"github.com/cryopod/cryopod/test/bench/webhook/load"
	"github.com/cryopod/cryopod/test/bench/webhook/program"
	"github.com/cryopod/cryopod/test/e2e/report"
)

const mib = 1 << 20

// hold evicts a crowd, and fills in the metrics. The webhooks have to be in effect.
func hold(ctx context.Context, b *rig.Bed, p *program.Program, o options, metrics map[string]report.Metric) error {
	say("%d evictions at once, held for %s or until their pods are saved", o.crowd, admission.DefaultHold)
	k, err := crowd.Make(ctx, b, o.crowd)
	if err != nil {
		return err
	}
	trial, err := k.Try(ctx, p, admission.DefaultHold)
	if err != nil {
		return err
	}
	for _, wrong := range trial.Wrong[:min(len(trial.Wrong), 5)] {
		say("wrong: %s", wrong)
	}
	took := func(answers []crowd.Answer) (all []time.Duration) {
		for _, a := range answers {
			all = append(all, a.Took)
		}
		return all
	}
	zero, memory := 0.0, 64.0
	goal := func(m report.Metric, g *float64) report.Metric {
		m.Goal = g
		return m
	}
	lower := func(value float64, unit string) report.Metric {
		return report.Metric{Value: value, Unit: unit, Better: "lower"}
	}
	metrics["held_at_once"] = report.Metric{Value: trial.Highest.Held, Unit: "requests", Better: "higher"}
	metrics["held_wrong_answers"] = goal(lower(float64(len(trial.Wrong)), "answers"), &zero)
	metrics["held_put_off_max"] = lower(load.Quantile(took(trial.PutOff), 1).Seconds(), "s")
	metrics["held_refused_max"] = lower(load.Quantile(took(trial.Crowded), 1).Seconds(), "s")
	metrics["held_woken_p50"] = lower(milliseconds(load.Quantile(trial.Woken, 0.5)), "ms")
	metrics["held_woken_p99"] = lower(milliseconds(load.Quantile(trial.Woken, 0.99)), "ms")
	metrics["held_resident_before"] = lower(trial.Before.Resident/mib, "MiB")
	metrics["held_resident_highest"] = lower(trial.Highest.PeakResident/mib, "MiB")
	metrics["held_resident_after"] = lower(trial.After.Resident/mib, "MiB")
	metrics["held_resident_added"] = goal(lower((trial.Highest.PeakResident-trial.Before.Resident)/mib, "MiB"), &memory)
	metrics["held_heap_before"] = lower(trial.Before.Heap/mib, "MiB")
	metrics["held_heap_highest"] = lower(trial.Highest.Heap/mib, "MiB")
	metrics["held_heap_after"] = lower(trial.After.Heap/mib, "MiB")
	metrics["held_goroutines_before"] = lower(trial.Before.Goroutines, "goroutines")
	metrics["held_goroutines_highest"] = lower(trial.Highest.Goroutines, "goroutines")
	metrics["held_goroutines_after"] = lower(trial.After.Goroutines, "goroutines")
	metrics["held_calls"] = lower(trial.Calls/float64(3*o.crowd), "calls of the API server an eviction")
	if len(trial.Wrong) > 0 {
		return fmt.Errorf("%d things are wrong, the first: %s", len(trial.Wrong), trial.Wrong[0])
	}
	return k.Remove(ctx)
}
