// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"math"
	"slices"
)

// task is a job in seconds from now.
type task struct {
	id     string
	bytes  float64
	weight float64
	due    float64 // +Inf without a deadline
	// freeze is for how much longer it may stand still, at rates that are divided by the safety.
	freeze float64
	stage  Stage
	left   float64 // seconds of latency while Starting, else bytes of the stage
}

// model is a node and its jobs. Its scratch space is used again by each run.
type model struct {
	dump, push float64 // bytes a second, divided by the safety
	latency    float64 // seconds, times the safety
	safety     float64
	slots      int
	room       float64

	tasks []task // by ID
	dated []int  // those that wait and have a deadline
	free  []int  // those that wait and have none, in their order

	began, ready []float64 // of the last run
	active       []active
	reach        []float64 // when each kept task is ready if nothing else begins
}

type active struct {
	task  int
	stage Stage
	left  float64
}

func newModel(in Input) *model {
	jobs := slices.Clone(in.Jobs)
	slices.SortFunc(jobs, compareJobs)
	safety := max(in.Rates.Safety, 1)
	m := &model{
		dump: max(in.Rates.Dump, 1) / safety, push: max(in.Rates.Push, 1) / safety,
		latency: max(in.Rates.Latency.Seconds(), 0) * safety, safety: safety,
		slots: max(in.Slots, 1), room: math.Inf(1),
		began: make([]float64, len(jobs)), ready: make([]float64, len(jobs)), reach: make([]float64, len(jobs)),
	}
	if in.Room > 0 {
		m.room = float64(in.Room)
	}
	for i, j := range jobs {
		t := task{
			id: j.ID, bytes: max(float64(j.Bytes), 0), weight: max(j.Weight, 0), due: math.Inf(1), freeze: math.Inf(1),
			stage: j.Stage, left: max(float64(j.Left), 0),
		}
		if !j.Deadline.IsZero() {
			t.due = j.Deadline.Sub(in.Now).Seconds() - in.Margin.Seconds()
			if j.Stage != Waiting {
				t.due += in.Margin.Seconds() / 2 // What is all but done is not ended for a moment.
			}
		}
		if j.MaxFreeze > 0 {
			t.freeze = (j.MaxFreeze - j.Frozen).Seconds() * safety
		}
		if j.Stage == Starting {
			t.left = max(m.latency-j.Frozen.Seconds(), 0)
		}
		m.tasks = append(m.tasks, t)
		switch {
		case j.Stage != Waiting:
		case j.Deadline.IsZero():
			m.free = append(m.free, i)
		default:
			m.dated = append(m.dated, i)
		}
	}
	slices.SortStableFunc(m.free, func(a, b int) int {
		return cmp.Or(compareBools(jobs[a].Background, jobs[b].Background), jobs[a].Arrived.Compare(jobs[b].Arrived))
	})
	return m
}

// compareJobs is a total order of jobs that differ in anything that counts.
func compareJobs(a, b Job) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(a.Weight, b.Weight), a.Deadline.Compare(b.Deadline),
		cmp.Compare(a.MaxFreeze, b.MaxFreeze), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Left, b.Left))
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// ownTime is how long a task takes from now on if it has the node to itself.
func (m *model) ownTime(i int) float64 {
	t := m.tasks[i]
	switch t.stage {
	case Starting:
		return t.left + t.bytes/m.dump + t.bytes/m.push
	case Dumping:
		return t.left/m.dump + t.bytes/m.push
	case Pushing:
		return t.left / m.push
	default:
		return m.latency + t.bytes/m.dump + t.bytes/m.push
	}
}

// onTime reports whether tasks under way make it together, on a node that is faster than measured by grace.
func (m *model) onTime(tasks []int) bool {
	m.run(tasks, nil, 1)
	for _, i := range tasks {
		at := m.ready[i] / (m.safety * grace)
		if at > m.tasks[i].due || at > m.tasks[i].freeze/m.safety {
			return false
		}
	}
	return true
}

// run plays a schedule: kept are under way, order is begun in that order, each as soon as a slot is free and fewer than atOnce tasks are
// before their push. It fills began and ready, and reports whether all of order are begun and ready in time, and none of kept is later
// than its deadline for it, unless it is so anyway (reach). It stops at the first that fails.
func (m *model) run(kept, order []int, atOnce int) bool {
	all := m.active[:0]
	taken, early := 0.0, 0
	for _, i := range kept {
		all = append(all, active{task: i, stage: m.tasks[i].stage, left: m.tasks[i].left})
		if m.tasks[i].stage != Pushing {
			early++
			taken += m.tasks[i].bytes
		} else {
			taken += m.tasks[i].bytes * pushed
		}
	}
	defer func() { m.active = all[:0] }()
	now, next := 0.0, 0
	for {
		for next < len(order) && len(all) < m.slots && early < atOnce && taken+m.tasks[order[next]].bytes <= m.room {
			i := order[next]
			if now+m.ownTime(i) > m.tasks[i].due {
				return false
			}
			m.began[i] = now
			all = append(all, active{task: i, stage: Starting, left: m.latency})
			taken += m.tasks[i].bytes
			next, early = next+1, early+1
		}
		if len(all) == 0 {
			return next == len(order)
		}
		now += m.advance(all)
		on := all[:0]
		for _, a := range all {
			for a.left <= tiny && a.stage != done {
				a = m.enter(a)
				if a.stage == Pushing {
					early--
					taken -= m.tasks[a.task].bytes * (1 - pushed)
				}
			}
			if a.stage != done {
				on = append(on, a)
				continue
			}
			taken -= m.tasks[a.task].bytes * pushed
			m.ready[a.task] = now
			if order != nil && !m.holds(a.task, now) {
				return false
			}
		}
		all = on
	}
}

// pushed is the part of its room that a task keeps while it is pushed.
const pushed = 0.25

// done follows Pushing; tiny is what is left when nothing is left, in bytes or seconds.
const (
	done = Pushing + 1
	tiny = 1e-9
)

func (m *model) enter(a active) active {
	bytes := m.tasks[a.task].bytes
	switch a.stage {
	case Starting:
		return active{task: a.task, stage: Dumping, left: bytes}
	case Dumping:
		return active{task: a.task, stage: Pushing, left: bytes}
	default:
		return active{task: a.task, stage: done}
	}
}

// advance brings all to the next end of a stage, and returns how long that takes.
func (m *model) advance(all []active) float64 {
	dumping, pushing := 0, 0
	for _, a := range all {
		switch a.stage {
		case Dumping:
			dumping++
		case Pushing:
			pushing++
		}
	}
	dump, push := m.dump/float64(max(dumping, 1)), m.push/float64(max(pushing, 1))
	step, first := math.Inf(1), 0
	for k, a := range all {
		if d := a.left / speed(a.stage, dump, push); d < step {
			step, first = d, k
		}
	}
	for k := range all {
		all[k].left = max(all[k].left-step*speed(all[k].stage, dump, push), 0)
	}
	all[first].left = 0
	return step
}

func speed(s Stage, dump, push float64) float64 {
	switch s {
	case Dumping:
		return dump
	case Pushing:
		return push
	default:
		return 1
	}
}

// holds reports whether a task may become ready at that time.
func (m *model) holds(i int, at float64) bool {
	t := m.tasks[i]
	if t.stage != Waiting {
		return at <= max(t.due, m.reach[i]+tiny) && at <= max(t.freeze, m.reach[i]+tiny)
	}
	return at <= t.due && at-m.began[i] <= t.freeze
}
