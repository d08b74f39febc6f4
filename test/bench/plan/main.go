// SPDX-License-Identifier: Apache-2.0

// Command plan plays the evacuation of many nodes, compares the planner with the exact optimum and with simpler ways, and writes
// _out/bench/plan.json. docs/planning.md says what is drawn and what the numbers mean.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cryopod/cryopod/pkg/plan"
	"github.com/cryopod/cryopod/test/bench/plan/world"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// played is what came of one node.
type played struct {
	pods                     int
	total, bound             float64
	ours                     world.Result
	arrival, small           world.Result
	optimum                  float64
	searched, solved, scarce bool
	calm                     float64 // of the optimum, of the same node without surprises; where that can't save all
	calmScarce               bool
}

func main() {
	nodes := flag.Int("nodes", 10_000, "how many nodes are drawn")
	seed := flag.Uint64("seed", 20261121, "what they are drawn from")
	steps := flag.Int("steps", 500_000, "how far the optimum of one node is looked for")
	timed := flag.Int("timed", 2000, "how many plans for 250 pods are timed")
	out := flag.String("out", "_out/bench/plan.json", "where the report goes")
	flag.Parse()
	if err := run(*nodes, *seed, *steps, *timed, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench-plan:", err)
		os.Exit(1)
	}
}

func run(nodes int, seed uint64, steps, timed int, out string) error {
	began := time.Now()
	fmt.Printf("%d nodes from seed %d\n", nodes, seed)
	took, err := measure(seed, timed)
	if err != nil {
		return err
	}
	all := make([]played, nodes)
	next := make(chan int)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for k := range next {
				all[k] = play(rand.New(rand.NewPCG(seed, uint64(k))), steps)
			}
		})
	}
	for k := range all {
		next <- k
	}
	close(next)
	workers.Wait()
	r := report.Report{Name: "plan", Machine: report.Machine(), Runs: nodes, Metrics: sum(all, took), Command: "make bench-plan"}
	report.Print(os.Stdout, r.Metrics)
	fmt.Printf("took %s\n", time.Since(began).Round(time.Second))
	return report.Write(out, r)
}

// play lets the planner and its rivals save the same node.
func play(r *rand.Rand, steps int) played {
	n := world.Draw(r)
	arrival := make([]int, len(n.Pods))
	for k := range arrival {
		arrival[k] = k
	}
	bySize := slices.SortedStableFunc(slices.Values(arrival), func(a, b int) int { return int(n.Pods[a].Estimate - n.Pods[b].Estimate) })
	p := played{
		pods: len(n.Pods), total: n.Total(), bound: n.Bound(),
		ours: n.Planned(plan.Make), arrival: n.InOrder(arrival, 1), small: n.InOrder(bySize, world.Slots),
	}
	if len(n.Pods) > world.Small {
		return p
	}
	p.searched = true
	p.optimum, p.solved = n.Optimum(max(p.ours.Saved, p.arrival.Saved, p.small.Saved), steps)
	p.scarce = p.solved && p.optimum < p.total*(1-1e-9)
	calm := n.Calm()
	saved := calm.Planned(plan.Make).Saved
	if best, ok := calm.Optimum(saved, steps); ok && best > 0 && best < p.total*(1-1e-9) {
		p.calm, p.calmScarce = saved/best, true
	}
	return p
}

// timing is how long plans took, sorted: by the clock, and of that on a core. The rest they waited for one.
type timing struct{ wall, core []float64 }

// measure times the first plan for nodes with 250 pods, one after the other, before anything else runs.
func measure(seed uint64, times int) (timing, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := rand.New(rand.NewPCG(seed, 1<<40))
	var took timing
	for range times {
		n := world.Full(r)
		in := n.Input()
		before, err := onCore()
		if err != nil {
			return timing{}, err
		}
		began := time.Now()
		plan.Make(in)
		took.wall = append(took.wall, time.Since(began).Seconds()*1000)
		after, err := onCore()
		if err != nil {
			return timing{}, err
		}
		took.core = append(took.core, float64(after-before)/1e6)
	}
	slices.Sort(took.wall)
	slices.Sort(took.core)
	return took, nil
}

// onCore is the time that the thread has had a core, in nanoseconds.
func onCore() (int64, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("reading the thread's time: %w", err)
	}
	return t.Nano(), nil
}
