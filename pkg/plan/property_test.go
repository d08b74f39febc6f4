// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/pkg/plan"
)

// draw draws a node with up to n jobs, some of them under way.
func draw(r *rand.Rand, n int) plan.Input {
	in := plan.Input{
		Now: now, Slots: 1 + r.IntN(6), Margin: time.Duration(r.IntN(3)) * time.Second,
		Rates: plan.Rates{
			Dump: 50e6 * math.Exp(r.NormFloat64()), Push: 50e6 * math.Exp(r.NormFloat64()),
			Latency: time.Duration(r.IntN(1000)) * time.Millisecond, Safety: 1 + r.Float64()/2,
		},
	}
	if r.IntN(4) == 0 {
		in.Room = 1e9
	}
	common := now.Add(time.Duration(10+r.IntN(110)) * time.Second)
	for k := range 1 + r.IntN(n) {
		j := plan.Job{
			ID: fmt.Sprintf("%03d", k), Bytes: int64(100e6 * math.Exp(1.3*r.NormFloat64())), Weight: math.Exp(2 * r.NormFloat64()), Deadline: common,
			Arrived: now.Add(-time.Duration(r.IntN(100)) * time.Second),
		}
		switch r.IntN(12) {
		case 0:
			j.Deadline = time.Time{}
		case 1:
			j.Deadline = now.Add(time.Duration(r.IntN(60)) * time.Second)
		case 2:
			j.MaxFreeze = time.Duration(1+r.IntN(20)) * time.Second
		case 3:
			j.Stage, j.Left, j.Frozen = plan.Stage(1+r.IntN(3)), int64(float64(j.Bytes)*r.Float64()), time.Duration(r.IntN(5))*time.Second
		}
		in.Jobs = append(in.Jobs, j)
	}
	return in
}

// weigh is the weight of the jobs with a deadline that the plan brings to their end.
func weigh(in plan.Input, p plan.Plan) float64 {
	jobs, sum := byID(in), 0.0
	for _, r := range p.Ready {
		if j := jobs[r.ID]; !j.Deadline.IsZero() {
			sum += j.Weight
		}
	}
	return sum
}

func byID(in plan.Input) map[string]plan.Job {
	jobs := map[string]plan.Job{}
	for _, j := range in.Jobs {
		jobs[j.ID] = j
	}
	return jobs
}

// check finds what no plan may do.
func check(t *testing.T, in plan.Input, p plan.Plan) {
	t.Helper()
	jobs, named := byID(in), map[string]string{}
	name := func(id, as string) {
		if was, twice := named[id]; twice || jobs[id].ID == "" {
			t.Errorf("%q is %s and %s", id, was, as)
		}
		named[id] = as
	}
	for _, r := range p.Ready {
		name(r.ID, "planned")
		j := jobs[r.ID]
		if due := j.Deadline.Add(-in.Margin); j.Stage == plan.Waiting && !j.Deadline.IsZero() && r.At.After(due.Add(time.Microsecond)) {
			t.Errorf("%q is planned to be ready %s after its deadline", r.ID, r.At.Sub(due))
		}
	}
	for _, c := range p.Cancel {
		name(c.ID, "cancelled")
		if jobs[c.ID].Stage == plan.Waiting {
			t.Errorf("%q waits and is cancelled", c.ID)
		}
	}
	for _, c := range p.Refuse {
		name(c.ID, "refused")
		if jobs[c.ID].Stage != plan.Waiting || c.Needs <= c.Has {
			t.Errorf("%q is refused: %+v", c.ID, c)
		}
	}
	slots, room := in.Slots, in.Room
	for id, as := range named {
		if jobs[id].Stage != plan.Waiting && as == "planned" {
			slots--
			room -= jobs[id].Bytes
			if jobs[id].Stage == plan.Pushing {
				room += jobs[id].Bytes * 3 / 4
			}
		}
	}
	for _, id := range p.Start {
		slots--
		room -= jobs[id].Bytes
		if named[id] != "planned" || jobs[id].Stage != plan.Waiting || slots < 0 || in.Room > 0 && room < 0 {
			t.Errorf("%q is started: %s, %d slots and %d bytes are left", id, named[id], slots, room)
		}
	}
}

func TestProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for k := range 1500 {
		in := draw(r, []int{3, 8, 20, 80}[k%4])
		p := plan.Make(in)
		check(t, in, p)
		shuffled := in
		shuffled.Jobs = append([]plan.Job(nil), in.Jobs...)
		r.Shuffle(len(in.Jobs), func(a, b int) { shuffled.Jobs[a], shuffled.Jobs[b] = shuffled.Jobs[b], shuffled.Jobs[a] })
		if diff := cmp.Diff(p, plan.Make(shuffled)); diff != "" {
			t.Errorf("%d: in another order (-want +got):\n%s", k, diff)
		}
		if t.Failed() {
			t.Fatalf("input %d: %+v\nplan: %+v", k, in, p)
		}
	}
}

// TestMoreTime gives a node more time. With few jobs every set is tried, and the best one of less time is still there; with many the plan is
// a good one, not the best.
func TestMoreTime(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for k := range 600 {
		many := k%3 == 0
		in := draw(r, map[bool]int{false: 8, true: 60}[many])
		for k := range in.Jobs {
			// One deadline, and none under way: they would give way to others.
			in.Jobs[k].Deadline, in.Jobs[k].Stage = now.Add(20*time.Second), plan.Waiting
		}
		before := 0.0
		for more := range 6 {
			for k := range in.Jobs {
				in.Jobs[k].Deadline = now.Add(time.Duration(20+7*more) * time.Second)
			}
			saved := weigh(in, plan.Make(in))
			least := before * (1 - 1e-9)
			if many {
				least = before * 0.97
			}
			if saved < least {
				t.Fatalf("%d: with %ds %v are saved, with less time %v", k, 20+7*more, saved, before)
			}
			before = saved
		}
	}
}

func FuzzMake(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, uint8(20))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint8) {
		in := draw(rand.New(rand.NewPCG(seed, 1)), 1+int(n))
		check(t, in, plan.Make(in))
	})
}
