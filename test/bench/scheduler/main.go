// SPDX-License-Identifier: Apache-2.0

// Command scheduler measures what CheckpointLocality costs and what it brings, and writes _out/bench/scheduler.json; docs/scheduling.md says what
// the numbers mean.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cryopod/cryopod/test/bench/scheduler/timed"
	"github.com/cryopod/cryopod/test/e2e/report"
)

const command = "make bench-scheduler"

type options struct {
	parts, out string
	throughput throughputOptions
	replay     replayOptions
	accuracy   accuracyOptions
}

// part is one that can be measured alone. All names of its metrics begin with one of the prefixes.
type part struct {
	name     string
	prefixes []string
	run      func(context.Context, options) (map[string]report.Metric, error)
}

// parts are all of them, in their order.
var parts = []part{
	{"throughput", []string{"throughput_", "plugin_"}, measureThroughput},
	{"replay", []string{"replay_"}, measureReplay},
	{"accuracy", []string{"restore_"}, measureAccuracy},
}

func main() {
	if timed.Asked(os.Args) {
		os.Exit(timed.Run(os.Args[2:]))
	}
	var o options
	flag.StringVar(&o.parts, "parts", "", "what to measure, of "+names()+"; all of it when empty. The report keeps what it has of other parts")
	flag.StringVar(&o.out, "out", "_out/bench/scheduler.json", "where the report goes")
	o.throughput.register(flag.CommandLine)
	o.replay.register(flag.CommandLine)
	o.accuracy.register(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-scheduler:", err)
		os.Exit(1)
	}
}

func names() string {
	var all []string
	for _, p := range parts {
		all = append(all, p.name)
	}
	return strings.Join(all, ", ")
}

func run(ctx context.Context, o options) error {
	began := time.Now()
	chosen, err := choose(o.parts)
	if err != nil {
		return err
	}
	r := report.Report{Name: "scheduler", Machine: report.Machine(), Runs: o.throughput.runs, Metrics: map[string]report.Metric{}, Command: command}
	if len(os.Args) > 1 {
		r.Command = "go run ./test/bench/scheduler " + strings.Join(os.Args[1:], " ")
	}
	if len(chosen) < len(parts) {
		if r.Metrics, err = kept(o.out, r.Machine, chosen); err != nil {
			return err
		}
	}
	for _, p := range chosen {
		metrics, failed := p.run(ctx, o)
		if len(metrics) > 0 {
			// What has been measured is not lost with what fails or follows.
			report.Print(os.Stdout, metrics)
			maps.Copy(r.Metrics, metrics)
			if err := report.Write(o.out, r); err != nil {
				return err
			}
		}
		if failed != nil {
			return fmt.Errorf("measuring %q: %w", p.name, failed)
		}
	}
	fmt.Printf("took %s\n", time.Since(began).Round(time.Second))
	return nil
}

// choose finds the parts of those names.
func choose(wanted string) ([]part, error) {
	if wanted == "" {
		return parts, nil
	}
	var chosen []part
	for name := range strings.SplitSeq(wanted, ",") {
		n := len(chosen)
		for _, p := range parts {
			if p.name == name {
				chosen = append(chosen, p)
			}
		}
		if len(chosen) == n {
			return nil, fmt.Errorf("reading --parts: there is no %q, but %s", name, names())
		}
	}
	return chosen, nil
}
