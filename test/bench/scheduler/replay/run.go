// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/cryopod/cryopod/test/e2e/report"
)

// Config tells what is played.
type Config struct {
	// Seed is the first trace's; each next one has the next seed. Traces is how many are played.
	Seed   uint64
	Traces int
	// Nodes and Apps are how large the cluster is.
	Nodes, Apps int
	// Warmup is played before Day and not counted: the nodes get images by it.
	Warmup, Day time.Duration
	// SchedulerConfig is the file of the scheduler's configuration, with the plugin.
	SchedulerConfig string
	// Progress is told of each trace.
	Progress io.Writer
}

// Defaults are what docs/scheduling.md quotes.
func Defaults() Config {
	return Config{
		Seed: 1, Traces: 5, Nodes: 120, Apps: 80, Warmup: 12 * time.Hour, Day: 24 * time.Hour,
		SchedulerConfig: "manifests/scheduler/config.yaml", Progress: io.Discard,
	}
}

// rival is what the plugin is compared with.
const rival = "kube-scheduler with ImageLocality"

// Run plays each trace twice, without the plugin and with it.
func Run(ctx context.Context, cfg Config) (map[string]report.Metric, error) {
	var ours, theirs []*sums
	for i := range cfg.Traces {
		t := draw(cfg, cfg.Seed+uint64(i))
		for _, plugin := range []bool{false, true} {
			began := time.Now()
			s, err := play(ctx, cfg, t, plugin)
			if err != nil {
				return nil, fmt.Errorf("playing the trace of seed %d, plugin %t: %w", cfg.Seed+uint64(i), plugin, err)
			}
			fmt.Fprintf(cfg.Progress, "seed %d, plugin %-5t %s  (%.0f s)\n", cfg.Seed+uint64(i), plugin, s, time.Since(began).Seconds())
			if plugin {
				ours = append(ours, s)
			} else {
				theirs = append(theirs, s)
			}
		}
	}
	return metrics(ours, theirs), nil
}

// String is a line for people.
func (s *sums) String() string {
	return fmt.Sprintf("%.1f GiB of images (%.1f to restore on), %.1f of checkpoints; %d pods, %d restored; "+
		"fresh %.1f s (p95 %.1f), restored %.1f s (p95 %.1f); load ± %.3f, most %.2f; crowded %.3f; waiting %d",
		gib(s.images), gib(s.restoring), gib(s.checkpoints), s.pods, s.restores,
		mean(s.fresh), p95(s.fresh), mean(s.restored), p95(s.restored),
		mean(s.deviations), mean(s.maxima), mean(s.crowded), s.pending)
}

func gib(bytes int64) float64 { return float64(bytes) / (1 << 30) }

// metrics are the medians over the traces.
func metrics(ours, theirs []*sums) map[string]report.Metric {
	all := map[string]report.Metric{}
	for name, m := range map[string]struct {
		unit string
		of   func(*sums) float64
	}{
		"replay_bytes_pulled":            {"GiB", func(s *sums) float64 { return gib(s.images + s.checkpoints) }},
		"replay_image_bytes_pulled":      {"GiB", func(s *sums) float64 { return gib(s.images) }},
		"replay_restore_image_bytes":     {"GiB", func(s *sums) float64 { return gib(s.restoring) }},
		"replay_checkpoint_bytes_pulled": {"GiB", func(s *sums) float64 { return gib(s.checkpoints) }},
		"replay_fresh_start_mean":        {"s", func(s *sums) float64 { return mean(s.fresh) }},
		"replay_fresh_start_p95":         {"s", func(s *sums) float64 { return p95(s.fresh) }},
		"replay_restore_mean":            {"s", func(s *sums) float64 { return mean(s.restored) }},
		"replay_restore_p95":             {"s", func(s *sums) float64 { return p95(s.restored) }},
		"replay_load_deviation":          {"share of CPU", func(s *sums) float64 { return mean(s.deviations) }},
		"replay_load_max":                {"share of CPU", func(s *sums) float64 { return mean(s.maxima) }},
		"replay_crowding":                {"share of an owner's pods on one node", func(s *sums) float64 { return mean(s.crowded) }},
	} {
		values := series(ours, m.of)
		all[name] = report.Metric{Value: report.Median(values), Unit: m.unit, Better: "lower", All: values}.
			Against(rival, report.Median(series(theirs, m.of)))
	}
	var saved []float64
	for i := range ours {
		before, after := theirs[i].images+theirs[i].checkpoints, ours[i].images+ours[i].checkpoints
		saved = append(saved, 100*(1-float64(after)/float64(before)))
	}
	goal := 60.
	all["replay_bytes_saved"] = report.Metric{Value: report.Median(saved), Unit: "%", Goal: &goal, Better: "higher", All: saved}
	return all
}

func series(runs []*sums, of func(*sums) float64) []float64 {
	var values []float64
	for _, s := range runs {
		values = append(values, of(s))
	}
	return values
}
