// SPDX-License-Identifier: Apache-2.0

// Command outage ends the webhook's replicas again and again, one half by SIGKILL and the other by SIGTERM, and renews the webhook's certificate
// again and again, while pods are created, before a real API server. It counts what went wrong, and writes _out/bench/outage.json.
// docs/reliability.md says what the numbers mean.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cryopod/cryopod/test/e2e/report"
)

func main() {
	o := Options{}
	flag.DurationVar(&o.Duration, "duration", 10*time.Minute, "how long pods are created")
	flag.IntVar(&o.Rate, "rate", 100, "how many a second")
	flag.IntVar(&o.Replicas, "replicas", 3, "of the webhook")
	flag.DurationVar(&o.Every, "every", 2*time.Second, "how often a replica is ended")
	flag.IntVar(&o.Rotations, "rotations", 100, "how often the certificate is renewed meanwhile")
	flag.DurationVar(&o.Lag, "lag", time.Second,
		"how long the Service goes on routing to a replica that has died, as kubelet, EndpointSlice and kube-proxy do")
	flag.DurationVar(&o.Probe, "probe", 2*time.Second, "period of the readiness probe, as in the manifests")
	flag.DurationVar(&o.Delay, "shutdown-delay", 5*time.Second, "the webhook's own flag; the default is the same")
	out := flag.String("out", "_out/bench/outage.json", "where the report goes")
	flag.Parse()
	if err := run(o, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench-outage:", err)
		os.Exit(1)
	}
}

func run(o Options, out string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	result, err := Attack(ctx, o)
	if err != nil {
		return err
	}
	for _, line := range result.Complaints() {
		fmt.Fprintln(os.Stderr, line)
	}
	r := report.Report{Name: "outage", Machine: report.Machine(), Runs: 1, Metrics: result.Metrics(), Command: "make bench-outage"}
	if o.Duration != 10*time.Minute {
		r.Command = fmt.Sprintf("go run ./test/bench/outage --duration=%s", o.Duration)
	}
	report.Print(os.Stdout, r.Metrics)
	fmt.Printf("took %s\n", time.Since(began).Round(time.Second))
	return report.Write(out, r)
}
