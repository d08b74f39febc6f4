// SPDX-License-Identifier: Apache-2.0

// Command bench-taint measures what of a node's pods is durable when, once the node's end was announced by a taint: all of them by
// Cryopod's plan, against one after the other by evictions.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/cryopod/cryopod/test/e2e/evacuation"
	"github.com/cryopod/cryopod/test/e2e/report"
	"github.com/cryopod/cryopod/test/e2e/trial"
)

type options struct {
	cluster string
	small   int
	count   int
	large   int
	runs    int
	out     string
	keep    bool
	quick   bool
}

func main() {
	var o options
	flag.StringVar(&o.cluster, "cluster", "bench", "name of the local cluster, which is started when it does not run")
	flag.IntVar(&o.count, "count", 8, "number of small pods; a large one comes to them")
	flag.IntVar(&o.small, "small", 64, "MiB of memory of a small pod")
	flag.IntVar(&o.large, "large", 1024, "MiB of memory of the large pod")
	flag.IntVar(&o.runs, "runs", 5, "runs, each with Cryopod's plan and one after the other")
	flag.StringVar(&o.out, "out", "_out/bench/taint.json", "where to write the report")
	flag.BoolVar(&o.keep, "keep", false, "leave the cluster up")
	flag.BoolVar(&o.quick, "quick", false, "one run with few and small pods, to see that all of it works; the numbers tell nothing")
	flag.Parse()
	if o.quick {
		o.count, o.small, o.large, o.runs = 2, 16, 64, 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-taint:", err)
		os.Exit(1)
	}
}

func (o options) validate() error {
	for name, value := range map[string]int{"count": o.count, "small": o.small, "large": o.large, "runs": o.runs} {
		if value < 1 {
			return fmt.Errorf("validating --%s: %d is less than 1", name, value)
		}
	}
	return nil
}

// sizes are the pods of a run in the order of their making, by which the rival takes them. The large one's place is another one in each
// run, from the first to the last.
func (o options) sizes(run int) []int {
	sizes := slices.Repeat([]int{o.small}, o.count)
	place := o.count / 2
	if o.runs > 1 {
		place = run * o.count / (o.runs - 1)
	}
	return slices.Insert(sizes, place, o.large)
}

func run(ctx context.Context, o options) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	b, end, err := trial.Up(ctx, o.cluster, o.keep, os.Stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	planned, oneByOne := &sample{name: "planned", leave: evacuation.ByTaint}, &sample{name: "one by one", leave: evacuation.OneByOne}
	for i := range o.runs {
		for _, s := range []*sample{planned, oneByOne} {
			if err := s.measure(ctx, b, o.sizes(i)); err != nil {
				return fmt.Errorf("measuring run %d, %s: %w", i+1, s.name, err)
			}
			fmt.Printf("run %d of %d, %s: %s\n", i+1, o.runs, s.name, s.last())
		}
	}
	if err := report.Write(o.out, compile(o, planned, oneByOne)); err != nil {
		return err
	}
	fmt.Printf("\n%s\nwritten to %s\n", table(planned, oneByOne), o.out)
	return nil
}
