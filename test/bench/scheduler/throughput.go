// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/cryopod/cryopod/test/bench/scheduler/throughput"
	"github.com/cryopod/cryopod/test/bench/scheduler/timed"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// throughputOptions are the flags of measureThroughput.
type throughputOptions struct {
	sizes, mixes    string
	runs, timedPods int
}

func (t *throughputOptions) register(fs *flag.FlagSet) {
	fs.StringVar(&t.sizes, "sizes", "5000:10000:0.97,15000:5000:0.95", "throughput: clusters as nodes:pods:goal, the goal in parts of the rival's")
	fs.StringVar(&t.mixes, "mixes", "plain,fresh,restoring", "throughput: the pods, none opted in, all of them, or all and a tenth restoring")
	fs.IntVar(&t.runs, "runs", 5, "throughput: runs of each scheduler, by turns, whose medians count")
	fs.IntVar(&t.timedPods, "timed-pods", 2000, "throughput: pods that are placed while the plugins are timed; 0 leaves that out")
}

// measureThroughput is the part of package throughput.
func measureThroughput(ctx context.Context, o options) (map[string]report.Metric, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	t := throughput.Options{
		Runs: o.throughput.runs, TimedPods: o.throughput.timedPods,
		Programs: throughput.Programs{Timed: throughput.Command{Path: self, Args: []string{timed.Argument}}},
	}
	for text := range strings.SplitSeq(o.throughput.sizes, ",") {
		var s throughput.Size
		if _, err := fmt.Sscanf(text, "%d:%d:%g", &s.Nodes, &s.Pods, &s.Goal); err != nil || s.Nodes < 1 || s.Pods < 1 {
			return nil, fmt.Errorf("reading --sizes: want nodes:pods:goal, not %q", text)
		}
		t.Sizes = append(t.Sizes, s)
	}
	for mix := range strings.SplitSeq(o.throughput.mixes, ",") {
		t.Mixes = append(t.Mixes, throughput.Mix(mix))
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return throughput.Run(ctx, t)
}
