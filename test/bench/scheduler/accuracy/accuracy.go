// SPDX-License-Identifier: Apache-2.0

package accuracy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/report"
	"github.com/cryopod/cryopod/test/e2e/trial"
)

// mebibyte is the unit of sizes and rates that people see.
const mebibyte = 1 << 20

// Config says what to measure: each size at each rate, with the base image on the target and without, Rounds times.
type Config struct {
	// Cluster is the name of the local cluster, which is started when it does not run.
	Cluster string
	// Keep leaves it up.
	Keep bool
	// Sizes are the MiB of memory of the pods.
	Sizes []int
	// Rates are the MiB a second that come through to the target; 0 is as much as the machine passes.
	Rates []int
	// BaseMebibytes is the size of the base image's own layer.
	BaseMebibytes int
	// Rounds is how often everything is done.
	Rounds int
	// Progress gets a line for each restore.
	Progress io.Writer
}

// Defaults is what docs/scheduling.md quotes: 24 restores.
func Defaults() Config {
	return Config{
		Cluster: "accuracy", Sizes: []int{8, 64, 256, 512}, Rates: []int{16, 64, 0}, BaseMebibytes: 48, Rounds: 1, Progress: io.Discard,
	}
}

// Validate names what makes no sense.
func (c Config) Validate() error {
	for name, values := range map[string][]int{"sizes": c.Sizes, "rates": c.Rates} {
		if len(values) == 0 {
			return fmt.Errorf("validating %s: there is none", name)
		}
		for _, v := range values {
			if v < 0 || v == 0 && name == "sizes" {
				return fmt.Errorf("validating %s: %d", name, v)
			}
		}
	}
	if c.Rounds < 1 || c.BaseMebibytes < 1 {
		return fmt.Errorf("validating rounds %d and the base's %d MiB: each must be at least 1", c.Rounds, c.BaseMebibytes)
	}
	return nil
}

// Result is what was measured.
type Result struct {
	Restores []Restore `json:"restores"`
	// Fitted are the constants that suit all of them best; nil where they can't tell.
	Fitted *Constants `json:"fitted,omitempty"`
}

// Run measures on a cluster of two nodes.
func Run(ctx context.Context, c Config) (result Result, err error) {
	if err := c.Validate(); err != nil {
		return result, err
	}
	b, end, err := trial.Up(ctx, c.Cluster, c.Keep, c.Progress)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, end()) }()
	if err := speakUp(ctx, b); err != nil {
		return result, err
	}
	r := &runner{Config: c, bed: b, source: b.Cluster.Nodes()[0], target: b.Cluster.Nodes()[1]}
	defer func() { err = errors.Join(err, b.Throttle(context.WithoutCancel(ctx), r.target, 0)) }()
	for range c.Rounds {
		for _, rate := range c.Rates {
			if err := r.group(ctx, rate, &result); err != nil {
				return result, err
			}
		}
	}
	if best, ok := Fit(result.Restores); ok {
		result.Fitted = &best
		fmt.Fprintf(c.Progress, "fitted to all of them: %s\n", best)
	}
	return result, nil
}

// runner moves pods from one node to another.
type runner struct {
	Config
	bed            *bed.Bed
	source, target *cluster.Node
}

// group measures all sizes at one rate. The restores with the base image on the target and those without take turns, and so do those that the model's
// constants are fitted to.
func (r *runner) group(ctx context.Context, rate int, result *Result) error {
	if err := r.bed.Throttle(ctx, r.target, rate); err != nil {
		return err
	}
	if err := r.warmUp(ctx, rate); err != nil {
		return err
	}
	for _, size := range r.Sizes {
		for _, based := range []bool{true, false} {
			began := time.Now()
			one, err := r.restore(ctx, size, based)
			if err != nil {
				return fmt.Errorf("measuring %d MiB at %d MiB/s: %w", size, rate, err)
			}
			one.Rate = rate
			result.Restores = append(result.Restores, one)
			fmt.Fprintf(r.Progress, "restore %2d: %s (%.0f s in all)\n", len(result.Restores), one, time.Since(began).Seconds())
		}
	}
	return nil
}

// goal is the share of the mean time that the mean error may be.
const goal = 0.25

// Metrics are what a report has of it.
func (r Result) Metrics() map[string]report.Metric {
	const guess = "guessing the mean of all restores each time"
	metrics := map[string]report.Metric{}
	if len(r.Restores) == 0 {
		return metrics
	}
	share := func(errs []float64) report.Metric {
		want := goal
		return report.Metric{Value: mean(errs) / mean(reals(r.Restores)), Unit: "share of the mean time", Better: "lower", Goal: &want}
	}
	predicted := share(misses(r.Restores, func(one Restore) float64 { return one.Predicted }))
	predicted = predicted.Against(guess, r.guessing())
	predicted.All = errorsOf(r.Restores)
	metrics["restore_prediction_error"] = predicted
	metrics["restore_mean_time"] = report.Metric{Value: mean(reals(r.Restores)), Unit: "s", Better: "lower", All: reals(r.Restores)}
	fitted, others := r.halves()
	if best, ok := Fit(fitted); ok && len(others) > 0 {
		held := misses(others, func(one Restore) float64 { return best.seconds(one) })
		want := goal
		metrics["restore_prediction_error_fitted_to_the_other_half"] = report.Metric{
			Value: mean(held) / mean(reals(others)), Unit: "share of the mean time", Better: "lower", Goal: &want,
		}
	}
	return metrics
}
