// SPDX-License-Identifier: Apache-2.0

// Command webhook measures the webhook's program under load, before a real API server: how fast it answers what it need not hold, what it adds
// to making a pod, and what holding many evictions at once costs. It writes _out/bench/webhook.json.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/webhook/program"
	"github.com/cryopod/cryopod/test/e2e/report"
)

type options struct {
	rate       float64
	span       time.Duration
	rounds     int
	createRate float64
	creates    int
	crowd      int
	parts      string
	program    string
	gogc       string
	out        string
	quick      bool
}

func main() {
	var o options
	flag.Float64Var(&o.rate, "rate", 1000, "requests a second straight at the webhook")
	flag.DurationVar(&o.span, "span", 5*time.Second, "how long a round of them lasts; one of a single kind lasts half of it")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds, whose medians count")
	flag.Float64Var(&o.createRate, "create-rate", 50, "pods a second through the API server")
	flag.IntVar(&o.creates, "creates", 250, "pods of a round")
	flag.IntVar(&o.crowd, "crowd", 500, "evictions held at once")
	flag.StringVar(&o.parts, "parts", "held,straight,wrk,create", "what to measure")
	flag.StringVar(&o.program, "program", "", "the webhook's program; built from this checkout when empty")
	flag.StringVar(&o.gogc, "gogc", "", "GOGC of the webhook, to see what memory it trades for time; as it is installed when empty")
	flag.StringVar(&o.out, "out", "_out/bench/webhook.json", "where to write the report")
	flag.BoolVar(&o.quick, "quick", false, "little of everything, to see that all of it works; the numbers tell nothing")
	flag.Parse()
	if o.quick {
		o.span, o.rounds, o.creates, o.crowd = time.Second, 1, 50, min(o.crowd, 50)
	}
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-webhook:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	began := time.Now()
	b, err := rig.New(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if o.program == "" {
		if o.program, err = b.Build(ctx, "webhook"); err != nil {
			return err
		}
	}
	if o.gogc != "" {
		if err := os.Setenv("GOGC", o.gogc); err != nil {
			return fmt.Errorf("setting GOGC: %w", err)
		}
	}
	// As it is installed, but for the number of requests that it may hold.
	p, err := program.Start(ctx, b, o.program, fmt.Sprintf("--max-holds=%d", o.crowd))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	metrics := map[string]report.Metric{}
	failed := measure(ctx, b, p, o, metrics)
	report.Print(os.Stdout, metrics)
	say("took %s", time.Since(began).Round(time.Second))
	if failed != nil {
		return failed
	}
	return report.Write(o.out, report.Report{
		Name: "webhook", Machine: report.Machine(), Runs: o.rounds, Metrics: metrics, Command: "make bench-webhook",
	})
}

func measure(ctx context.Context, b *rig.Bed, p *program.Program, o options, metrics map[string]report.Metric) error {
	parts := strings.Split(o.parts, ",")
	s, err := newStraight(ctx, b, p)
	if err != nil {
		return err
	}
	create := &creation{bed: b, program: p}
	for _, part := range []struct {
		name string
		run  func() error
	}{
		// While the program is fresh: what other loads leave of its heap would hide what this one costs.
		{"held", func() error { return hold(ctx, b, p, o, metrics) }},
		{"straight", func() error { return s.run(ctx, o, metrics) }},
		{"wrk", func() error { return s.flatOut(ctx, o, metrics) }},
		{"create", func() error { return create.run(ctx, o, metrics) }},
	} {
		if !slices.Contains(parts, part.name) {
			continue
		}
		if err := part.run(); err != nil {
			return err
		}
	}
	return nil
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }
