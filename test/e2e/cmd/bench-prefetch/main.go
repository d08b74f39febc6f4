// SPDX-License-Identifier: Apache-2.0

// Command bench-prefetch measures what it gains that the agent fetches checkpoints while the kubelet pulls base images: the time from a
// replacement's binding to its first step, with agents that do so and with agents that don't, in turns.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/cryopod/cryopod/test/e2e/report"
	"github.com/cryopod/cryopod/test/e2e/trial"
)

type options struct {
	cluster    string
	mebibytes  int
	base       int
	line       int
	connection int
	runs       int
	out        string
	keep       bool
}

func main() {
	var o options
	flag.StringVar(&o.cluster, "cluster", "bench", "name of the local cluster, which is started when it does not run")
	flag.IntVar(&o.mebibytes, "memory", 256, "MiB of memory of the workload; about half of it is left when it is packed")
	flag.IntVar(&o.base, "base", 96, "MiB of the base image")
	flag.IntVar(&o.line, "line", 32, "MiB a second that the target's line lets through, where it is bounded")
	flag.IntVar(&o.connection, "connection", 32, "MiB a second that the registry passes on each connection, where it bounds them")
	flag.IntVar(&o.runs, "runs", 5, "runs of each kind, with prefetch and without")
	flag.StringVar(&o.out, "out", "_out/bench/prefetch.json", "where to write the report")
	flag.BoolVar(&o.keep, "keep", false, "leave the cluster up")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-prefetch:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	for name, value := range map[string]int{"line": o.line, "connection": o.connection, "runs": o.runs} {
		if value < 1 {
			return fmt.Errorf("validating --%s: %d is less than 1", name, value)
		}
	}
	b, end, err := trial.Up(ctx, o.cluster, o.keep, os.Stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	r := &runner{options: o, bed: b, source: b.Cluster.Nodes()[0], target: b.Cluster.Nodes()[1]}
	defer func() {
		err = errors.Join(err, r.turn(context.WithoutCancel(ctx), true))
	}()
	results, err := r.all(ctx)
	if err != nil {
		return err
	}
	compiled := compile(o, results)
	if err := report.Write(o.out, compiled); err != nil {
		return err
	}
	report.Print(os.Stdout, compiled.Metrics)
	fmt.Printf("written to %s\n", o.out)
	return nil
}
