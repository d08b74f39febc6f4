// SPDX-License-Identifier: Apache-2.0

// Command bench-migrate measures how long an eviction keeps a process from its work: from the eviction request to the first step that
// a witness gets from the other node. A plain kubectl drain of the same workload runs beside it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cryopod/cryopod/test/e2e/report"
	"github.com/cryopod/cryopod/test/e2e/trial"
)

// settled is how many steps, 50 ms apart, the workload does before its node is drained.
const settled = 100

type options struct {
	cluster string
	sizes   string
	runs    int
	out     string
	keep    bool
}

func main() {
	var o options
	flag.StringVar(&o.cluster, "cluster", "bench", "name of the local cluster, which is started when it does not run")
	flag.StringVar(&o.sizes, "sizes", "16,256,1024", "MiB of memory of the workload, separated by commas")
	flag.IntVar(&o.runs, "runs", 10, "runs of each size, with Cryopod and without")
	flag.StringVar(&o.out, "out", "_out/bench/migrate.json", "where to write the report")
	flag.BoolVar(&o.keep, "keep", false, "leave the cluster up")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-migrate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	sizes, err := o.parse()
	if err != nil {
		return err
	}
	b, end, err := trial.Up(ctx, o.cluster, o.keep, os.Stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	samples := map[int]*sample{}
	for _, mebibytes := range sizes {
		samples[mebibytes] = &sample{}
	}
	for i := range o.runs {
		for _, mebibytes := range sizes {
			if err := samples[mebibytes].measure(ctx, b, mebibytes); err != nil {
				return fmt.Errorf("measuring run %d with %d MiB: %w", i+1, mebibytes, err)
			}
			fmt.Printf("run %2d of %d, %4d MiB: %s\n", i+1, o.runs, mebibytes, samples[mebibytes].last())
		}
	}
	r := compile(o, sizes, samples)
	if err := report.Write(o.out, r); err != nil {
		return err
	}
	fmt.Printf("\n%s\n%s", table(sizes, samples), "written to "+o.out+"\n")
	return nil
}

func (o options) parse() ([]int, error) {
	if o.runs < 1 {
		return nil, fmt.Errorf("validating --runs: %d is less than 1", o.runs)
	}
	var sizes []int
	for _, text := range strings.Split(o.sizes, ",") {
		size, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || size < 1 || slices.Contains(sizes, size) {
			return nil, fmt.Errorf("validating --sizes: %q is not a list of different numbers of MiB", o.sizes)
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}
