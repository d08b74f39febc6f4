// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cryopod/cryopod/test/protocol/world"
)

// Bounds say how far schedules are explored.
type Bounds struct {
	// Deviations is how many things at most happen otherwise than by the fair order: a fault, a stall, a clock's jump, a cache that lags.
	Deviations int
	// Every takes one in so many of the schedules with the greatest number of deviations, if that is 2 or more; 0 takes all. Which ones depends on
	// the schedules alone.
	Every uint64
	// Workers is how many schedules run at a time.
	Workers int
	// Within bounds the time; 0 does not. What was not explored in time is not.
	Within time.Duration
}

// Report is what came of an exploration.
type Report struct {
	// Schedules is how many were run, States how many different states they came through, Points the points of the fair schedule.
	Schedules, States, Points int
	// Whole is whether all within the bounds were run.
	Whole bool
	// Violation is the first that was found, with the fewest deviations there are; nil when there is none. Plan is its schedule, Story what
	// happens in it.
	Violation *world.Violation
	Plan      world.Plan
	Story     []string
	// Took is how long it took.
	Took time.Duration
}

// explorer runs the schedules of one script.
type explorer struct {
	t      *testing.T
	script world.Script
	bounds Bounds
	dir    string
	began  time.Time

	mu     sync.Mutex
	states map[uint64]struct{}
	report Report
}

// Explore runs all schedules of the script within the bounds, those with fewer deviations first, until one violates an invariant. The test
// is only where bubbles hang on; it fails where the world itself does not work.
func Explore(t *testing.T, s world.Script, b Bounds, dir string) Report {
	e := &explorer{t: t, script: s, bounds: b, dir: dir, began: time.Now(), states: map[uint64]struct{}{}}
	switch {
	case s.Most == world.FairOnly:
		b.Deviations = 0
	case s.Most > 0:
		b.Deviations = min(b.Deviations, s.Most)
	}
	e.bounds = b
	fair := e.run(world.Plan{}, 0, false)
	e.report.Points = len(fair.Points)
	e.report.Whole = true
	if b.Deviations > 0 {
		level := children(world.Plan{}, fair)
		for n := 1; n <= b.Deviations && e.report.Violation == nil; n++ {
			level = e.level(level, n)
		}
	}
	if e.report.Violation != nil {
		e.report.Story = e.run(e.report.Plan, 0, true).Story
	}
	e.report.States, e.report.Took = len(e.states), time.Since(e.began)
	return e.report
}

// level runs all plans, and gives those with one deviation more. Of the last level there are none.
func (e *explorer) level(plans []world.Plan, n int) []world.Plan {
	var next []world.Plan
	work := make(chan world.Plan)
	var all sync.WaitGroup
	for worker := range max(e.bounds.Workers, 1) {
		all.Go(func() {
			for plan := range work {
				r := e.run(plan, worker, false)
				if n < e.bounds.Deviations && r.Violation == nil {
					more := children(plan, r)
					e.mu.Lock()
					next = append(next, more...)
					e.mu.Unlock()
				}
			}
		})
	}
	for _, plan := range plans {
		if n > 1 && n == e.bounds.Deviations && !e.chosen(plan) {
			continue
		}
		if e.over() {
			break
		}
		work <- plan
	}
	close(work)
	all.Wait()
	// In the order of the plans, whoever was first to run them.
	slices.SortFunc(next, func(a, b world.Plan) int { return strings.Compare(Name(a), Name(b)) })
	return next
}

func (e *explorer) chosen(plan world.Plan) bool {
	if e.bounds.Every <= 1 {
		return true
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(Name(plan)))
	return h.Sum64()%e.bounds.Every == 0
}

// over tells whether to go on.
func (e *explorer) over() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bounds.Within > 0 && time.Since(e.began) > e.bounds.Within {
		e.report.Whole = false
		return true
	}
	return e.report.Violation != nil
}

// run runs one schedule in a bubble of its own.
func (e *explorer) run(plan world.Plan, worker int, story bool) world.Result {
	var r world.Result
	dir := filepath.Join(e.dir, strconv.Itoa(worker))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		e.t.Error(err)
		return r
	}
	synctest.Test(e.t, func(*testing.T) { r = world.Run(e.script, plan, dir, story) })
	e.mu.Lock()
	defer e.mu.Unlock()
	e.report.Schedules++
	for _, s := range r.States {
		e.states[s] = struct{}{}
	}
	if r.Err != nil {
		e.t.Errorf("schedule %s of %q: %v", Name(plan), e.script.Name, r.Err)
	}
	if r.Violation != nil && (e.report.Violation == nil || Name(plan) < Name(e.report.Plan)) {
		e.report.Violation, e.report.Plan = r.Violation, plan
	}
	return r
}

// children are the plans with one deviation more, after all that the plan has.
func children(plan world.Plan, r world.Result) []world.Plan {
	from := 0
	for n := range plan {
		from = max(from, n+1)
	}
	var out []world.Plan
	for n := from; n < len(r.Points); n++ {
		for _, option := range r.Points[n].Options {
			child := maps.Clone(plan)
			child[n] = option
			out = append(out, child)
		}
	}
	return out
}

// Name is a plan in one line.
func Name(plan world.Plan) string {
	var parts []string
	for _, n := range slices.Sorted(maps.Keys(plan)) {
		parts = append(parts, fmt.Sprintf("%04d %s", n, plan[n]))
	}
	return strings.Join(parts, "; ")
}

// Tell runs the schedule of that name, and tells its story.
func Tell(t *testing.T, s world.Script, name, dir string) world.Result {
	e := &explorer{t: t, script: s, dir: dir, states: map[uint64]struct{}{}}
	plan := world.Plan{}
	for part := range strings.SplitSeq(name, "; ") {
		number, option, _ := strings.Cut(part, " ")
		if n, err := strconv.Atoi(number); err == nil {
			plan[n] = option
		}
	}
	return e.run(plan, 0, true)
}
