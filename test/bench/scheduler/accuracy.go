// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cryopod/cryopod/test/bench/scheduler/accuracy"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// accuracyOptions are the flags of measureAccuracy.
type accuracyOptions struct {
	cluster, sizes, rates string
	rounds                int
	keep                  bool
}

func (a *accuracyOptions) register(fs *flag.FlagSet) {
	d := accuracy.Defaults()
	fs.StringVar(&a.cluster, "accuracy-cluster", d.Cluster, "accuracy: name of the local cluster, which is started when it does not run")
	fs.BoolVar(&a.keep, "accuracy-keep", false, "accuracy: leave the cluster up")
	fs.StringVar(&a.sizes, "accuracy-sizes", list(d.Sizes), "accuracy: MiB of memory of the pods, separated by commas")
	fs.StringVar(&a.rates, "accuracy-rates", list(d.Rates), "accuracy: MiB a second that come through to the target; 0 for as many as do")
	fs.IntVar(&a.rounds, "accuracy-rounds", d.Rounds, "accuracy: how often each size is restored at each rate, with the base image there and without")
}

// measureAccuracy is the part of package accuracy. What it saw of each restore is written beside the report.
func measureAccuracy(ctx context.Context, o options) (map[string]report.Metric, error) {
	c := accuracy.Defaults()
	c.Cluster, c.Keep, c.Rounds, c.Progress = o.accuracy.cluster, o.accuracy.keep, o.accuracy.rounds, os.Stdout
	var err error
	if c.Sizes, err = numbers("accuracy-sizes", o.accuracy.sizes); err != nil {
		return nil, err
	}
	if c.Rates, err = numbers("accuracy-rates", o.accuracy.rates); err != nil {
		return nil, err
	}
	result, err := accuracy.Run(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := report.Write(filepath.Join(filepath.Dir(o.out), "scheduler-accuracy.json"), result); err != nil {
		return nil, err
	}
	return result.Metrics(), nil
}

func list(values []int) string {
	var parts []string
	for _, v := range values {
		parts = append(parts, strconv.Itoa(v))
	}
	return strings.Join(parts, ",")
}

// numbers reads a list that a flag has.
func numbers(name, text string) ([]int, error) {
	var values []int
	for part := range strings.SplitSeq(text, ",") {
		v, err := strconv.Atoi(part)
		if err != nil {
			return nil, fmt.Errorf("reading --%s: %q is not a list of numbers", name, text)
		}
		values = append(values, v)
	}
	return values, nil
}
