// SPDX-License-Identifier: Apache-2.0

package world

import (
	"time"

	"github.com/cryopod/cryopod/pkg/plan"
)

const (
	// Margin is how long before the deadline a pod has to be durable by the plan: the agent's.
	Margin = time.Second
	// Tick is how often the plan is looked at when nothing happens: the agent's.
	Tick = 500 * time.Millisecond
	// Safety is the agent's.
	Safety = 1.1
	// expected is how much the first estimate of the rates counts, in bytes: the agent's.
	expected = 256 << 20
	// nearly is from when on before the deadline ticks are played: before that, a plan changes only with what happens.
	nearly = 4.0
)

// epoch is when notices begin.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func moment(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }

// player saves a node's pods as an agent does: it sees what its pods seem to have, when stages end, and nothing else.
type player struct {
	*state
	waits   []bool
	laps    map[int]plan.Lap
	dump    plan.Meter
	push    plan.Meter
	planned func(plan.Input) plan.Plan
	result  Result
}

func newPlayer(n *Node, planned func(plan.Input) plan.Plan) *player {
	p := &player{state: &state{node: n}, waits: make([]bool, len(n.Pods)), laps: map[int]plan.Lap{}, planned: planned}
	for k := range p.waits {
		p.waits[k] = true
	}
	p.dump.Expect(n.Dump, expected)
	p.push.Expect(n.Push, expected)
	return p
}

// Planned saves the node's pods by a planner, which is asked whenever a stage ends.
func (n *Node) Planned(planned func(plan.Input) plan.Plan) Result {
	p := newPlayer(n, planned)
	for {
		p.replan()
		if len(p.jobs) == 0 {
			return p.result
		}
		until := n.Notice - nearly
		if p.now >= until-1e-9 {
			until = min(p.now+Tick.Seconds(), n.Notice)
		}
		for _, j := range p.advance(until) {
			p.entered(j)
		}
		if p.now >= n.Notice-1e-9 {
			p.result.Torn = len(p.jobs)
			return p.result
		}
	}
}

// entered keeps the meters.
func (p *player) entered(j job) {
	pod, now := p.node.Pods[j.pod], moment(p.now)
	switch j.stage {
	case plan.Dumping:
		p.laps[j.pod] = p.dump.Enter(now)
	case plan.Pushing:
		p.dump.Leave(p.laps[j.pod], now, int64(pod.True))
		p.laps[j.pod] = p.push.Enter(now)
	default:
		p.push.Leave(p.laps[j.pod], now, int64(pod.True))
		p.result.Saved += pod.Weight
	}
}

// Input is what the planner is asked first.
func (n *Node) Input() plan.Input {
	p := newPlayer(n, nil)
	input, _ := p.input()
	return input
}

// input is what the planner is asked now, and which pod each ID is.
func (p *player) input() (plan.Input, map[string]int) {
	input := plan.Input{
		Now: moment(p.now), Slots: Slots, Margin: Margin,
		Rates: plan.Rates{Dump: p.dump.Rate(), Push: p.push.Rate(), Latency: Latency, Safety: Safety},
	}
	index := map[string]int{}
	add := func(pod int, j plan.Job) {
		of := p.node.Pods[pod]
		index[of.ID] = pod
		j.ID, j.Weight, j.Deadline = of.ID, of.Weight, moment(p.node.Notice)
		input.Jobs = append(input.Jobs, j)
	}
	for k, waits := range p.waits {
		if waits {
			add(k, plan.Job{Bytes: p.node.Pods[k].Estimate})
		}
	}
	for _, j := range p.jobs {
		bytes := p.node.Pods[j.pod].Estimate
		if j.stage == plan.Pushing {
			bytes = int64(p.node.Pods[j.pod].True) // The archive is there by then.
		}
		rate, meter := input.Rates.Dump, &p.dump
		if j.stage == plan.Pushing {
			rate, meter = input.Rates.Push, &p.push
		}
		left := bytes
		if j.stage != plan.Starting {
			left = plan.Left(bytes, rate, meter.Shares(p.laps[j.pod], input.Now))
		}
		add(j.pod, plan.Job{Bytes: bytes, Stage: j.stage, Left: left, Frozen: moment(p.now).Sub(moment(j.began))})
	}
	return input, index
}

func (p *player) replan() {
	input, index := p.input()
	decided := p.planned(input)
	for _, c := range decided.Cancel {
		p.end(index[c.ID])
	}
	for _, r := range decided.Refuse {
		p.waits[index[r.ID]] = false
	}
	for _, id := range decided.Start {
		p.waits[index[id]] = false
		p.begin(index[id])
	}
}

func (p *player) end(pod int) {
	for k, j := range p.jobs {
		if j.pod != pod {
			continue
		}
		switch j.stage {
		case plan.Dumping:
			p.dump.Leave(p.laps[pod], moment(p.now), 0)
		case plan.Pushing:
			p.push.Leave(p.laps[pod], moment(p.now), 0)
		}
		p.jobs = append(p.jobs[:k:k], p.jobs[k+1:]...)
		p.result.Ended++
		return
	}
}
