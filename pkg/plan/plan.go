// SPDX-License-Identifier: Apache-2.0

// Package plan decides which pods of a node are saved, in which order and how many at once, so that the most value is durable in the
// registry by the deadline.
//
// Saving a pod takes a fixed latency, then a dump, then a push. All pods in a stage share its rate equally; nothing is shared
// between the stages, so that one pod's push goes on beside the next one's dump. A pod stands still from its start until it is durable.
//
// Make is pure and deterministic: the same jobs in another order give the same plan. It is meant to be called again whenever a job
// comes, ends or enters a stage, and with each new measurement of the rates.
package plan

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Stage is how far a job is.
type Stage int

// The stages of a job, in order.
const (
	// Waiting: it was not begun.
	Waiting Stage = iota
	// Starting: it was begun and is in the fixed latency before its dump.
	Starting
	// Dumping: its memory is being written down.
	Dumping
	// Pushing: the dump is being sent to the registry.
	Pushing
)

// Job is one pod to be saved.
type Job struct {
	// ID tells jobs apart.
	ID string
	// Bytes is the memory in use that has to be dumped and pushed.
	Bytes int64
	// Weight is what it is worth (Weight); not negative.
	Weight float64
	// Deadline is when it must be durable. Zero: there is none; then it waits for all that have one.
	Deadline time.Time
	// MaxFreeze is how long the pod may stand still. 0: without bound.
	MaxFreeze time.Duration
	// Arrived orders the jobs without a deadline.
	Arrived time.Time
	// Background puts a job without a deadline behind the others that have none.
	Background bool
	// Stage is how far it is. Left are the bytes left of that stage while Dumping or Pushing, and Frozen is how long the pod has stood still.
	Stage  Stage
	Left   int64
	Frozen time.Duration
}

// Rates is how fast the node is.
type Rates struct {
	// Dump and Push are bytes of memory a second, of all jobs in the stage together.
	Dump, Push float64
	// Latency is what each job takes besides, whatever else happens.
	Latency time.Duration
	// Safety is how much slower than that the plan takes the node to be; less than 1 counts as 1.
	Safety float64
}

// Input is what a plan is made of.
type Input struct {
	// Now is the time.
	Now time.Time
	// Jobs are all that wait and all that are under way.
	Jobs []Job
	// Rates is how fast the node is.
	Rates Rates
	// Slots is how many jobs may be under way at once; less than 1 counts as 1.
	Slots int
	// Room is how many bytes of memory may be under way at once: a dump leaves copies on the disk. Of a job that is pushed a quarter counts, for
	// one of the four copies is left. 0: without bound.
	Room int64
	// Margin is how long before its deadline a job has to be durable; half of that once it is under way.
	Margin time.Duration
}

// Why is why a job can't be saved.
type Why int

// The reasons.
const (
	// NeverCould: there was not time enough for it even alone.
	NeverCould Why = iota + 1
	// GaveWay: there is not time enough for it beside what is worth more.
	GaveWay
	// TooLong: it would stand still for longer than its MaxFreeze.
	TooLong
)

// Shortfall tells that a job can't be saved and by how much.
type Shortfall struct {
	// ID is the job.
	ID string
	// Why is the reason.
	Why Why
	// Needs is how long it takes until the job is durable (for GaveWay: after what is worth more; for TooLong: how long it stands still), Has
	// what it has for that.
	Needs, Has time.Duration
}

// Prediction is when a job will be durable.
type Prediction struct {
	// ID is the job.
	ID string
	// At is when, with the rates divided by their safety.
	At time.Time
}

// Plan says what to do now.
type Plan struct {
	// Start are the jobs to begin at once, in this order.
	Start []string
	// Ready is when each job is durable that is under way or planned, in that order.
	Ready []Prediction
	// Cancel are jobs under way that can't be durable in time any more: they are to be ended now, or they would be torn.
	Cancel []Shortfall
	// Refuse are waiting jobs that can't be saved. What is in none of the lists waits: it may yet have its turn, if the node is faster than it
	// seems.
	Refuse []Shortfall
}

const (
	// hope is how much faster than measured the node may turn out to be: jobs for which that would be enough are not given up yet.
	hope = 1.3
	// grace is the same for a job under way.
	grace = 1.1
)

// Make plans.
func Make(in Input) Plan {
	m := newModel(in)
	var p Plan
	kept := m.keep(&p)
	best := m.choose(kept)
	if dropped, better := m.preempt(kept, best); dropped >= 0 {
		p.Cancel = append(p.Cancel, m.shortfall(dropped, GaveWay, m.ownTime(dropped)))
		kept = slices.DeleteFunc(slices.Clone(kept), func(i int) bool { return i == dropped })
		best = better
	}
	if !m.refuse(&p, kept, best) {
		best = m.fill(kept, best)
	}
	m.run(kept, best.order, best.atOnce)
	for _, i := range slices.Concat(kept, best.order) {
		p.Ready = append(p.Ready, Prediction{ID: m.tasks[i].id, At: in.Now.Add(seconds(m.ready[i]))})
		if m.tasks[i].stage == Waiting && m.began[i] == 0 {
			p.Start = append(p.Start, m.tasks[i].id)
		}
	}
	slices.SortStableFunc(p.Ready, func(a, b Prediction) int { return a.At.Compare(b.At) })
	return p
}

// keep returns the jobs under way that go on: those worth most that make it together.
func (m *model) keep(p *Plan) []int {
	var all []int
	for i, t := range m.tasks {
		if t.stage != Waiting {
			all = append(all, i)
		}
	}
	// The cheapest goes first, until those that are left make it.
	slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(m.tasks[b].weight, m.tasks[a].weight) })
	kept := all
	for len(kept) > 0 && !m.onTime(kept) {
		victim := len(kept) - 1
		for v := len(kept) - 1; v >= 0; v-- {
			if !m.onTime(kept[v : v+1]) {
				victim = v
				break
			}
			if m.onTime(without(kept, v)) {
				victim = v
				break
			}
		}
		why := GaveWay
		if !m.onTime(kept[victim : victim+1]) {
			why = NeverCould
		}
		m.run(kept, nil, 1)
		p.Cancel = append(p.Cancel, m.shortfall(kept[victim], why, m.ready[kept[victim]]))
		kept = without(kept, victim)
	}
	slices.Sort(kept)
	return kept
}

func without(all []int, at int) []int { return slices.Concat(all[:at], all[at+1:]) }

// preempt looks for a job under way whose place is worth more to those that wait. It returns -1 when there is none.
func (m *model) preempt(kept []int, best choice) (dropped int, better choice) {
	if len(kept) == 0 || len(best.order) == len(m.dated) {
		return -1, choice{}
	}
	// The one that blocks most for its worth.
	worst := slices.MinFunc(kept, func(a, b int) int {
		return cmp.Compare(m.tasks[a].weight/m.ownTime(a), m.tasks[b].weight/m.ownTime(b))
	})
	// What that could win at most: its place, filled with what is worth most for its time.
	most := 0.0
	for _, i := range m.dated {
		if !slices.Contains(best.order, i) {
			most = max(most, m.tasks[i].weight, m.tasks[i].weight/m.cost(i)*m.ownTime(worst))
		}
	}
	if most <= regret*m.tasks[worst].weight {
		return -1, choice{}
	}
	better = m.choose(without(kept, slices.Index(kept, worst)))
	if better.weight <= best.weight*(1+clearly)+regret*m.tasks[worst].weight {
		return -1, choice{}
	}
	return worst, better
}

// regret is how many times its own weight must be won by ending a job under way, and clearly the share of the plan's besides: what it has
// done so far is lost, and plans differ a little by chance.
const (
	regret  = 1.25
	clearly = 0.05
)

// refuse names the waiting jobs that were not chosen and have no hope. It returns whether any that has a deadline still hopes.
func (m *model) refuse(p *Plan, kept []int, best choice) (hoping bool) {
	chosen := make([]bool, len(m.tasks))
	for _, i := range best.order {
		chosen[i] = true
	}
	m.run(kept, best.order, best.atOnce)
	last := 0.0
	for _, i := range slices.Concat(kept, best.order) {
		last = max(last, m.ready[i])
	}
	for i, t := range m.tasks {
		if t.stage != Waiting || chosen[i] {
			continue
		}
		alone := m.ownTime(i)
		after := max(alone, last+t.bytes/min(m.dump, m.push))
		switch {
		case alone > t.freeze:
			p.Refuse = append(p.Refuse, Shortfall{ID: t.id, Why: TooLong, Needs: seconds(alone / m.safety), Has: seconds(t.freeze / m.safety)})
		case alone > t.due:
			p.Refuse = append(p.Refuse, m.shortfall(i, NeverCould, alone))
		case after > hope*m.safety*t.due:
			p.Refuse = append(p.Refuse, m.shortfall(i, GaveWay, after))
		case !math.IsInf(t.due, 1):
			hoping = true
		}
	}
	return hoping
}

// fill adds the next jobs that have no deadline behind those that have one.
func (m *model) fill(kept []int, best choice) choice {
	var next []int
	for _, i := range m.free {
		if t := m.tasks[i]; len(next) < 2*m.slots && m.ownTime(i) <= t.freeze && t.bytes <= m.room {
			next = append(next, i)
		}
	}
	if len(best.order) == 0 {
		s := m.search(kept, nil)
		return s.swiftest(next)
	}
	for _, i := range next {
		with := append(slices.Clone(best.order), i)
		if !m.run(kept, with, best.atOnce) || m.began[i] > 0 {
			break
		}
		best.order = with
	}
	return best
}

func (m *model) shortfall(i int, why Why, needs float64) Shortfall {
	return Shortfall{ID: m.tasks[i].id, Why: why, Needs: seconds(needs), Has: max(seconds(m.tasks[i].due), 0)}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
