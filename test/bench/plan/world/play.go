// SPDX-License-Identifier: Apache-2.0

package world

import (
	"math"

	"github.com/cryopod/cryopod/pkg/plan"
)

// job is a pod that is being saved.
type job struct {
	pod   int
	stage plan.Stage
	left  float64 // seconds while Starting, else true bytes of the stage
	began float64
}

// state is a node at a point in time.
type state struct {
	node *Node
	now  float64
	jobs []job
}

func (s *state) clone() *state {
	c := *s
	c.jobs = append([]job(nil), s.jobs...)
	return &c
}

// begin begins to save a pod.
func (s *state) begin(pod int) {
	s.jobs = append(s.jobs, job{pod: pod, stage: plan.Starting, left: Latency.Seconds(), began: s.now})
}

// advance plays on to the next end of a stage, but not beyond until. It returns the jobs whose stage has changed, as they are now; one whose
// stage is beyond Pushing is durable, and gone from the state.
func (s *state) advance(until float64) []job {
	for {
		dump, push := s.rates()
		step := until - s.now
		if edge := (math.Floor(s.now/stepOfDrift+1e-9)+1)*stepOfDrift - s.now; edge < step {
			step = edge
		}
		for _, j := range s.jobs {
			step = min(step, j.left/speed(j.stage, dump, push))
		}
		s.now += step
		var changed []job
		on := s.jobs[:0]
		for _, j := range s.jobs {
			j.left -= step * speed(j.stage, dump, push)
			if j.left > 1e-6 {
				on = append(on, j)
				continue
			}
			j.stage++
			j.left = s.node.Pods[j.pod].True
			changed = append(changed, j)
			if j.stage <= plan.Pushing {
				on = append(on, j)
			}
		}
		s.jobs = on
		if len(changed) > 0 || s.now >= until-1e-9 {
			return changed
		}
	}
}

func (s *state) rates() (dump, push float64) {
	dumping, pushing := 0, 0
	for _, j := range s.jobs {
		switch j.stage {
		case plan.Dumping:
			dumping++
		case plan.Pushing:
			pushing++
		}
	}
	return at(s.node.dumps, s.now) / float64(max(dumping, 1)), at(s.node.pushes, s.now) / float64(max(pushing, 1))
}

func speed(stage plan.Stage, dump, push float64) float64 {
	switch stage {
	case plan.Dumping:
		return dump
	case plan.Pushing:
		return push
	default:
		return 1
	}
}

// Result is what came of a node.
type Result struct {
	// Saved is the weight of what was durable by the deadline.
	Saved float64
	// Torn is how many were being saved when the deadline came.
	Torn int
	// Ended is how many were begun and then ended.
	Ended int
}

// InOrder saves the pods in the given order, slots at a time, until the deadline comes.
func (n *Node) InOrder(order []int, slots int) Result {
	s := &state{node: n}
	var r Result
	for next := 0; ; {
		for ; next < len(order) && len(s.jobs) < slots; next++ {
			s.begin(order[next])
		}
		if len(s.jobs) == 0 {
			return r
		}
		for _, j := range s.advance(n.Notice) {
			if j.stage > plan.Pushing {
				r.Saved += n.Pods[j.pod].Weight
			}
		}
		if s.now >= n.Notice-1e-9 {
			r.Torn = len(s.jobs)
			return r
		}
	}
}
