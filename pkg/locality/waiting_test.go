// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/cryopod/cryopod/pkg/locality"
)

func TestHold(t *testing.T) {
	const forNode, forCheckpoint = "no_node_fits", "checkpoint_unknown"
	type env struct {
		*locality.Waiting
		clock *clocktesting.FakeClock
	}
	held := func(e *env, seen bool, times int) {
		for range times {
			e.Hold(seen)
		}
	}
	for name, tc := range map[string]struct {
		impatient bool
		// before is what came before the pod is about to be queued, its checkpoint unseen or not.
		before func(e *env)
		unseen bool
		why    string
		// again is whether the pod was held for that before.
		again bool
	}{
		"new":                          {before: func(*env) {}},
		"new, its checkpoint not seen": {before: func(*env) {}, unseen: true, why: forCheckpoint},
		"new, its checkpoint not seen yet": {
			before: func(e *env) { held(e, false, 2); e.clock.Step(4 * time.Second) }, unseen: true, why: forCheckpoint, again: true,
		},
		"its checkpoint not seen for long":                       {before: func(e *env) { held(e, false, 1); e.clock.Step(5 * time.Second) }, unseen: true},
		"tried, its checkpoint gone since":                       {before: func(e *env) { e.Cycle(true, false) }, unseen: true},
		"no node fits":                                           {before: func(e *env) { e.Cycle(false, true) }, why: forNode},
		"no node fits, once more":                                {before: func(e *env) { e.Cycle(false, true); held(e, true, 1) }, why: forNode, again: true},
		"no node fits, and none would take it: no patience runs": {before: func(e *env) { e.Cycle(false, false) }},
		"one fits that is full":                                  {before: func(e *env) { e.Cycle(true, true) }},
		"something changed since":                                {before: func(e *env) { e.Cycle(false, true); e.Wake() }},
		"something changed during the cycle":                     {before: func(e *env) { e.Cycle(false, true, e.Wake) }},
		"something changed, and was in vain": {
			before: func(e *env) { e.Cycle(false, true); e.Wake(); e.Cycle(false, true) }, why: forNode,
		},
		"a node opened":                     {before: func(e *env) { e.Cycle(false, true); e.Open() }},
		"a node opened during the cycle":    {before: func(e *env) { e.Cycle(false, true, e.Open) }},
		"a node opened, unseen by the next": {before: func(e *env) { e.Cycle(false, true); e.Open(); e.Cycle(false, true) }},
		"a node opened, and closed again": {
			before: func(e *env) { e.Cycle(false, true); e.Open(); e.Takes = false; e.Cycle(false, true) }, why: forNode,
		},
		"a node opened, was seen, and closed again": {
			before: func(e *env) {
				e.Cycle(false, true)
				e.Open()
				e.Cycle(true, true)
				e.Takes = false
				e.Cycle(false, true)
			}, why: forNode,
		},
		"given up": {before: func(e *env) { e.Cycle(false, true); e.clock.Step(time.Minute); e.Tick() }, why: forNode},
		"given up, and nobody sent it back": {before: func(e *env) {
			e.Cycle(false, true)
			e.clock.Step(time.Minute)
			e.Tick()
			e.clock.Step(5 * time.Second)
		}},
		"without patience":                             {impatient: true, before: func(e *env) { e.Cycle(false, true) }},
		"without patience, its checkpoint not seen":    {impatient: true, before: func(*env) {}, unseen: true},
		"its checkpoint seen, no cycle, and gone then": {before: func(e *env) { held(e, true, 1) }, unseen: true, why: forCheckpoint},
	} {
		t.Run(name, func(t *testing.T) {
			patience := time.Minute
			if tc.impatient {
				patience = 0
			}
			clock := clocktesting.NewFakeClock(time.Now())
			e := &env{locality.NewWaiting(clock, patience, restoringPod()), clock}
			tc.before(e)
			why, news := e.Hold(!tc.unseen)
			if why != tc.why || news != (why != "" && !tc.again) {
				t.Errorf("held for %q (news: %t), want %q (news: %t)", why, news, tc.why, !tc.again)
			}
		})
	}
}

// TestTickFreesWhomItHeld: what no event ends, the time does, once.
func TestTickFreesWhomItHeld(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	w := locality.NewWaiting(clock, time.Minute, restoringPod())
	activated := func(when string, want int) {
		t.Helper()
		w.Tick()
		if w.Activated != want {
			t.Errorf("%s the pod was activated %d times, want %d", when, w.Activated, want)
		}
	}
	w.Hold(true)
	activated("while it waits for its turn", 0)
	w.Hold(false)
	activated("held for its checkpoint", 0)
	clock.Step(5 * time.Second)
	activated("after the time for that", 1)
	activated("a second later", 1)
	w.Cycle(false, true)
	w.Hold(true)
	activated("held for a node", 1)
	clock.Step(10 * time.Second)
	activated("given up", 1)
	clock.Step(5 * time.Second)
	activated("after the time to fall back", 2)
	activated("a second later", 2)
}

// TestNodesWakeWhoHasHadACycle: while a scheduler starts, thousands of nodes come one after the other, and thousands of pods wait for their first cycle. Nobody
// looks each pod up for each node.
func TestNodesWakeWhoHasHadACycle(t *testing.T) {
	for name, comes := range map[string]func(*locality.Waiting){"a node opens": (*locality.Waiting).Open, "a node's profile changes": (*locality.Waiting).Fit} {
		t.Run(name, func(t *testing.T) {
			w := locality.NewWaiting(clocktesting.NewFakeClock(time.Now()), time.Minute, restoringPod())
			w.Hold(true)
			if comes(w); w.Activated != 0 || w.Asked != 0 {
				t.Errorf("before its first cycle the pod was activated %d times, and looked at %d times; want neither", w.Activated, w.Asked)
			}
			w.Cycle(false, true)
			if comes(w); w.Activated != 1 {
				t.Errorf("after it the pod was activated %d times, want 1", w.Activated)
			}
		})
	}
}
