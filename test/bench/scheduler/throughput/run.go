// SPDX-License-Identifier: Apache-2.0

// Package throughput measures how many pods a second Cryopod's scheduler places, beside kube-scheduler and with the same pods, before a real API
// server with thousands of made-up nodes; and what CheckpointLocality takes of that, beside ImageLocality.
package throughput

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/cryopod/cryopod/test/apiserver"
	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/scale/store"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// Size is how large a cluster is.
type Size struct {
	Nodes, Pods int
	// Goal is the share of kube-scheduler's throughput that ours has to reach.
	Goal float64
}

// Options say what is measured.
type Options struct {
	Sizes []Size
	Mixes []Mix
	// Runs is how many runs of each scheduler there are, by turns.
	Runs int
	// TimedPods is how many pods are scheduled while the plugins are timed; 0 leaves that out.
	TimedPods int
	// Programs are the schedulers. Timed has to be there where plugins are timed; the others are as released where they are not.
	Programs Programs
}

// Run measures all of it. The metrics' names end in the number of nodes and the mix. What was measured before an error is returned with it.
func Run(ctx context.Context, o Options) (map[string]report.Metric, error) {
	metrics := map[string]report.Metric{}
	for _, size := range o.Sizes {
		if err := measure(ctx, o, size, metrics); err != nil {
			return metrics, fmt.Errorf("measuring with %d nodes: %w", size.Nodes, err)
		}
	}
	return metrics, nil
}

func measure(ctx context.Context, o Options, size Size, metrics map[string]report.Metric) (err error) {
	b, err := rig.New(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	programs, err := o.Programs.complete(ctx, b)
	if err != nil {
		return err
	}
	g := &ground{bed: b, store: store.New(b.Etcd(), apiserver.Scheme()), nodes: size.Nodes}
	say("%d nodes", size.Nodes)
	if err := g.populate(ctx); err != nil {
		return err
	}
	for _, mix := range o.Mixes {
		pairs, err := g.race(ctx, programs, mix, size.Pods, o.Runs)
		if err != nil {
			return err
		}
		pairs.report(fmt.Sprintf("%d_%s", size.Nodes, mix), size.Goal, metrics)
		if o.TimedPods == 0 {
			continue
		}
		timings, err := g.time(ctx, programs.Timed, mix, o.TimedPods, o.Runs)
		if err != nil {
			return err
		}
		timings.report(fmt.Sprintf("%d_%s", size.Nodes, mix), metrics)
	}
	return nil
}

// race lets both schedulers do the same by turns. Who is first changes too: what the API server has on its heap by then slows both alike.
func (g *ground) race(ctx context.Context, programs Programs, mix Mix, pods, runs int) (pairs, error) {
	mine, err := ours(g.bed.Checkout, programs.Ours)
	if err != nil {
		return nil, err
	}
	all := make(pairs, runs)
	for run := range runs {
		sides := []side{theirs(programs.Rival), mine}
		if run%2 == 1 {
			slices.Reverse(sides)
		}
		for _, s := range sides {
			began := time.Now()
			t, err := g.try(ctx, s, mix, pods)
			if err != nil {
				return nil, err
			}
			say("%d nodes, %s, run %d: %-14s %6.1f pods/s, %.2f ms of CPU each; took %s", g.nodes, mix, run, s.name, t.rate(),
				t.perPod().Seconds()*1000, time.Since(began).Round(time.Second))
			if s.name == mine.name {
				all[run].ours = t
			} else {
				all[run].theirs = t
			}
		}
	}
	return all, nil
}

// time runs Cryopod's scheduler with stopwatches.
func (g *ground) time(ctx context.Context, command Command, mix Mix, pods, runs int) (timings, error) {
	s, err := stopwatch(g.bed.Checkout, command)
	if err != nil {
		return nil, err
	}
	var all timings
	for range runs {
		t, err := g.try(ctx, s, mix, pods)
		if err != nil {
			return nil, err
		}
		if err := t.checkScored(mix); err != nil {
			return nil, err
		}
		all = append(all, t)
		say("%d nodes, %s: CheckpointLocality %s, ImageLocality %s for each pod", g.nodes, mix, t.ours(), t.theirs())
	}
	return all, nil
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench-scheduler: "+format+"\n", args...)
}

// Validate tells what makes no sense.
func (o Options) Validate() error {
	for _, s := range o.Sizes {
		if first, last := span(s.Pods); last <= first {
			return fmt.Errorf("measuring with %d pods: those are too few", s.Pods)
		}
	}
	for _, m := range o.Mixes {
		if !slices.Contains(Mixes, m) {
			return fmt.Errorf("measuring with pods %q: there are %v", m, Mixes)
		}
	}
	if o.Runs < 1 {
		return fmt.Errorf("measuring %d times: it has to be once at least", o.Runs)
	}
	return nil
}
