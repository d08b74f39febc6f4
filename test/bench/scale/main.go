// SPDX-License-Identifier: Apache-2.0

// Command scale measures what each of Cryopod's programs takes: in an empty cluster, in one with thousands of nodes and ten times as many pods,
// and while those change. It writes _out/bench/scale.json; docs/reliability.md says what the numbers mean.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cryopod/cryopod/test/e2e/report"
)

// Options say how large the cluster is.
type Options struct {
	Nodes, Pods, Checkpoints int
	// Heartbeats and Pace are Leases renewed, and pods created and deleted, each second.
	Heartbeats, Pace int
	// Window is how long is measured each time.
	Window time.Duration
	// Webhook is a program to measure in the place of the webhook that is built.
	Webhook string
}

func main() {
	var o Options
	flag.IntVar(&o.Nodes, "nodes", 5000, "how many nodes there are")
	flag.IntVar(&o.Pods, "pods", 50_000, "how many pods run on them, one in ten opted in")
	flag.IntVar(&o.Checkpoints, "checkpoints", 500, "how many PodCheckpoints there are")
	flag.IntVar(&o.Heartbeats, "heartbeats", 500, "how many nodes renew their Leases each second")
	flag.IntVar(&o.Pace, "pace", 20, "how many pods are created and deleted each second")
	flag.DurationVar(&o.Window, "window", 30*time.Second, "how long is measured each time")
	flag.StringVar(&o.Webhook, "webhook", "", "a webhook's program to measure in the place of this tree's")
	out := flag.String("out", "_out/bench/scale.json", "where the report goes")
	flag.Parse()
	if err := run(o, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench-scale:", err)
		os.Exit(1)
	}
}

func run(o Options, out string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	m, err := newMeasurement(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.all(ctx); err != nil {
		return err
	}
	r := report.Report{Name: "scale", Machine: report.Machine(), Runs: 1, Metrics: m.metrics, Command: "make bench-scale"}
	report.Print(os.Stdout, r.Metrics)
	fmt.Printf("took %s\n", time.Since(began).Round(time.Second))
	return report.Write(out, r)
}
