// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/plan"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const mb = 1_000_000

// waiting is a job of so many seconds of dump, and as many of push, that has to be durable in so many seconds.
func waiting(id string, size float64, weight float64, due time.Duration) plan.Job {
	return plan.Job{ID: id, Bytes: int64(size * 100 * mb), Weight: weight, Deadline: now.Add(due)}
}

func underWay(j plan.Job, stage plan.Stage, left float64, frozen time.Duration) plan.Job {
	j.Stage, j.Left, j.Frozen = stage, int64(left*100*mb), frozen
	return j
}

func frozenFor(j plan.Job, most time.Duration) plan.Job {
	j.MaxFreeze = most
	return j
}

func undated(j plan.Job, arrived int, background bool) plan.Job {
	j.Deadline, j.Arrived, j.Background = time.Time{}, now.Add(time.Duration(arrived)), background
	return j
}

// at 100 MB/s in both stages, without latency.
func input(slots int, jobs ...plan.Job) plan.Input {
	return plan.Input{Now: now, Jobs: jobs, Slots: slots, Rates: plan.Rates{Dump: 100 * mb, Push: 100 * mb}}
}

func TestMake(t *testing.T) {
	second := time.Second
	tests := map[string]struct {
		in   plan.Input
		want plan.Plan
	}{
		"nothing to do": {input(2), plan.Plan{}},
		"one": {input(2, waiting("a", 2, 1, 10*second)), plan.Plan{
			Start: []string{"a"}, Ready: []plan.Prediction{{"a", now.Add(4 * second)}},
		}},
		"the next one's dump beside the push": {input(2, waiting("a", 2, 9, 10*second), waiting("b", 2, 1, 10*second)), plan.Plan{
			Start: []string{"a"}, Ready: []plan.Prediction{{"a", now.Add(4 * second)}, {"b", now.Add(6 * second)}},
		}},
		"it is pushed, the next one may begin": {
			input(2, underWay(waiting("a", 2, 9, 10*second), plan.Pushing, 1, second), waiting("b", 2, 1, 10*second)), plan.Plan{
				Start: []string{"b"}, Ready: []plan.Prediction{{"a", now.Add(second)}, {"b", now.Add(4 * second)}},
			},
		},
		"never": {input(2, waiting("a", 2, 1, 3*second)), plan.Plan{
			Refuse: []plan.Shortfall{{ID: "a", Why: plan.NeverCould, Needs: 4 * second, Has: 3 * second}},
		}},
		"the one worth more": {input(1, waiting("a", 2, 1, 4*second), waiting("b", 2, 2, 4*second)), plan.Plan{
			Start: []string{"b"}, Ready: []plan.Prediction{{"b", now.Add(4 * second)}},
			Refuse: []plan.Shortfall{{ID: "a", Why: plan.GaveWay, Needs: 6 * second, Has: 4 * second}},
		}},
		"many small ones are worth more than a large one": {
			input(1, waiting("big", 4, 3, 8*second), waiting("s1", 2, 2, 8*second), waiting("s2", 2, 2, 8*second)), plan.Plan{
				Start: []string{"s1"}, Ready: []plan.Prediction{{"s1", now.Add(4 * second)}, {"s2", now.Add(8 * second)}},
				Refuse: []plan.Shortfall{{ID: "big", Why: plan.GaveWay, Needs: 12 * second, Has: 8 * second}},
			},
		},
		"it may yet have its turn": {input(1, waiting("a", 2, 1, 5*second), waiting("b", 2, 2, 5*second)), plan.Plan{
			Start: []string{"b"}, Ready: []plan.Prediction{{"b", now.Add(4 * second)}},
		}},
		"it would stand still for too long": {input(2, frozenFor(waiting("a", 2, 1, 10*second), 3*second)), plan.Plan{
			Refuse: []plan.Shortfall{{ID: "a", Why: plan.TooLong, Needs: 4 * second, Has: 3 * second}},
		}},
		"alone it stands still for less": {
			input(2, frozenFor(waiting("a", 2, 1, 20*second), 4*second), frozenFor(waiting("b", 2, 1, 20*second), 4*second)), plan.Plan{
				Start: []string{"a"}, Ready: []plan.Prediction{{"a", now.Add(4 * second)}, {"b", now.Add(6 * second)}},
			},
		},
		"it would be torn": {input(2, underWay(waiting("a", 2, 1, 2*second), plan.Dumping, 1, second)), plan.Plan{
			Cancel: []plan.Shortfall{{ID: "a", Why: plan.NeverCould, Needs: 3 * second, Has: 2 * second}},
		}},
		"two under way, time for one": {
			input(2, underWay(waiting("a", 3, 1, 4*second), plan.Dumping, 1, second), underWay(waiting("b", 3, 2, 4*second), plan.Dumping, 1, second)),
			plan.Plan{
				Ready:  []plan.Prediction{{"b", now.Add(4 * second)}},
				Cancel: []plan.Shortfall{{ID: "a", Why: plan.GaveWay, Needs: 8 * second, Has: 4 * second}},
			},
		},
		"what has just begun gives way to what is worth far more": {
			input(1, underWay(waiting("a", 3, 1, 7*second), plan.Dumping, 3, 0), waiting("b", 3, 100, 7*second)), plan.Plan{
				Start: []string{"b"}, Ready: []plan.Prediction{{"b", now.Add(6 * second)}},
				Cancel: []plan.Shortfall{{ID: "a", Why: plan.GaveWay, Needs: 6 * second, Has: 7 * second}},
				Refuse: nil,
			},
		},
		"deadlines of their own": {input(1, waiting("late", 1, 9, 20*second), waiting("soon", 1, 1, 2*second)), plan.Plan{
			Start: []string{"soon"}, Ready: []plan.Prediction{{"soon", now.Add(2 * second)}, {"late", now.Add(4 * second)}},
		}},
		"without a deadline: after all others, as they came": {
			input(1, undated(waiting("a", 1, 9, 0), 1, true), undated(waiting("b", 1, 9, 0), 3, false), undated(waiting("c", 1, 1, 0), 2, false),
				waiting("d", 1, 1, 20*second)), plan.Plan{
				Start: []string{"d"}, Ready: []plan.Prediction{{"d", now.Add(2 * second)}},
			},
		},
		"the first that came": {
			input(1, undated(waiting("a", 1, 9, 0), 1, true), undated(waiting("b", 1, 9, 0), 3, false), undated(waiting("c", 1, 1, 0), 2, false)), plan.Plan{
				Start: []string{"c"}, Ready: []plan.Prediction{{"c", now.Add(2 * second)}, {"b", now.Add(4 * second)}},
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, plan.Make(tc.in)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRoom(t *testing.T) {
	in := input(4, waiting("a", 1, 2, time.Minute), waiting("b", 1, 1, time.Minute), waiting("c", 4, 9, time.Minute))
	in.Rates.Latency, in.Room = 20*time.Second, 250*mb
	if diff := cmp.Diff([]string{"a", "b"}, plan.Make(in).Start); diff != "" {
		t.Errorf("started (-want +got):\n%s", diff)
	}
	in.Room = 150 * mb
	if diff := cmp.Diff([]string{"a"}, plan.Make(in).Start); diff != "" {
		t.Errorf("started (-want +got):\n%s", diff)
	}
}

func TestSafetyAndMargin(t *testing.T) {
	in := input(1, waiting("a", 2, 1, 5*time.Second))
	in.Rates.Safety = 1.2
	if got := plan.Make(in); len(got.Start) != 1 || !got.Ready[0].At.Equal(now.Add(4800*time.Millisecond)) {
		t.Errorf("plan %+v, want a to start", got)
	}
	in.Margin = time.Second
	want := []plan.Shortfall{{ID: "a", Why: plan.NeverCould, Needs: 4800 * time.Millisecond, Has: 4 * time.Second}}
	if diff := cmp.Diff(want, plan.Make(in).Refuse); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}

func TestWeight(t *testing.T) {
	rising := []float64{
		plan.Weight(1, -1_000_000), plan.Weight(1, -10), plan.Weight(1, 0), plan.Weight(1, 1), plan.Weight(1, 1000),
		plan.Weight(2, 1001), plan.Weight(99, 0), plan.Weight(0, 0), plan.Weight(100, 1),
		plan.Weight(100, 2_000_001_000), plan.Weight(1_000_000, 0), plan.Weight(1_000_000, 1<<31-1),
	}
	for k := 1; k < len(rising); k++ {
		if rising[k] <= rising[k-1] {
			t.Errorf("weights %v do not rise at %d", rising, k)
		}
	}
	if plan.DefaultValue != v1alpha1.DefaultValue {
		t.Errorf("the default value is %d here and %d in the API", plan.DefaultValue, v1alpha1.DefaultValue)
	}
	if plan.Weight(0, 0) != plan.Weight(plan.DefaultValue, 0) || plan.Weight(100, 1000) != 2*plan.Weight(100, 0) {
		t.Errorf("Weight(0, 0) = %v, Weight(100, 1000) = %v", plan.Weight(0, 0), plan.Weight(100, 1000))
	}
}

func TestMeter(t *testing.T) {
	var m plan.Meter
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	rate := func(want float64) {
		t.Helper()
		if got := m.Rate(); math.Abs(got-want) > 0.01*want {
			t.Errorf("rate %v, want about %v", got, want)
		}
	}
	rate(0)
	a := m.Enter(at(0))
	b := m.Enter(at(2)) // a was alone for 2 s, then they share.
	if got := m.Shares(a, at(4)); got != 3*time.Second {
		t.Errorf("a had %s of the stage, want 3s", got)
	}
	m.Leave(a, at(4), 3*mb)
	rate(mb)
	m.Leave(b, at(6), 9*mb) // One second shared, two alone: 3 MB a second.
	rate(2 * mb)
	m.Leave(m.Enter(at(7)), at(8), 0) // It failed.
	rate(2 * mb)
	m.Leave(m.Enter(at(10)), at(20), 10<<30) // Much more than all before it.
	rate((10 << 30) / 10.55)                 // Of the 6 s before, an eleventh is left.
}

// TestMeterExpects has a few small jobs, which seem slow, change little of what is expected, and a large one much.
func TestMeterExpects(t *testing.T) {
	var m plan.Meter
	m.Expect(400*mb, 256*mb)
	small := m
	for range 4 {
		small.Leave(small.Enter(now), now.Add(300*time.Millisecond), 15*mb) // 50 MB/s.
	}
	if got := small.Rate(); got < 150*mb {
		t.Errorf("rate %v after small jobs", got)
	}
	m.Leave(m.Enter(now), now.Add(20*time.Second), 1000*mb) // 50 MB/s.
	if got := m.Rate(); got > 60*mb {
		t.Errorf("rate %v after a large job", got)
	}
}

func TestMeterFixed(t *testing.T) {
	for took, want := range map[time.Duration]float64{5 * time.Second: 100, 1100 * time.Millisecond: 400 / 0.275} {
		m := plan.Meter{Fixed: time.Second}
		m.Leave(m.Enter(now), now.Add(took), 400)
		if got := m.Rate(); math.Abs(got-want) > 1e-6 {
			t.Errorf("%s: rate %v, want %v", took, got, want)
		}
	}
}

func TestLeft(t *testing.T) {
	for _, tc := range []struct{ bytes, rate, seconds, want int64 }{
		{100, 10, 0, 100}, {100, 10, 4, 60}, {100, 10, 9, 10}, {100, 10, 20, 4}, {100, 10, -1, 100},
	} {
		if got := plan.Left(tc.bytes, float64(tc.rate), time.Duration(tc.seconds)*time.Second); got != tc.want {
			t.Errorf("Left(%d, %d, %ds) = %d, want %d", tc.bytes, tc.rate, tc.seconds, got, tc.want)
		}
	}
}
