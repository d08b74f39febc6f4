// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"os"

	"github.com/cryopod/cryopod/test/bench/scheduler/replay"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// replayOptions are the flags of the replayed day.
type replayOptions struct{ replay.Config }

func (o *replayOptions) register(fs *flag.FlagSet) {
	o.Config = replay.Defaults()
	fs.Uint64Var(&o.Seed, "replay-seed", o.Seed, "the seed of the first day; each day after it has the next")
	fs.IntVar(&o.Traces, "replay-days", o.Traces, "how many days are replayed")
	fs.IntVar(&o.Nodes, "replay-nodes", o.Nodes, "how many nodes they have")
	fs.IntVar(&o.Apps, "replay-owners", o.Apps, "how many owners of pods they have")
	fs.DurationVar(&o.Warmup, "replay-warmup", o.Warmup, "how much is played before, for the nodes to have images")
	fs.StringVar(&o.SchedulerConfig, "replay-config", o.SchedulerConfig, "the scheduler's configuration with the plugin")
}

func measureReplay(ctx context.Context, o options) (map[string]report.Metric, error) {
	if o.replay.Traces < 1 || o.replay.Nodes < 1 || o.replay.Apps < 1 {
		return nil, errors.New("reading the flags: --replay-days, --replay-nodes and --replay-owners must be at least 1")
	}
	o.replay.Progress = os.Stdout
	return replay.Run(ctx, o.replay.Config)
}
