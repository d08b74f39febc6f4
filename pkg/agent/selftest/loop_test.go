// SPDX-License-Identifier: Apache-2.0

package selftest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/agent/selftest"
)

func TestLoop(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	var id containerd.Identity
	var down error
	verified := true
	tests, seen := 0, []string(nil)
	loop := &selftest.Loop{
		Identity: func(context.Context) (containerd.Identity, error) { return id, down },
		Test: func(context.Context, string) selftest.Report {
			tests++
			var r selftest.Report
			r.Done, r.Method.Verified = true, verified
			return r
		},
		Seen:   func(id containerd.Identity) { seen = append(seen, id.Name) },
		Report: func(selftest.Report) {},
		Clock:  clock,
	}
	steps := []struct {
		name   string
		change func()
		after  time.Duration
		tests  int
	}{
		{"at start", func() { id = containerd.Identity{Name: "containerd://2.3.7", Fingerprint: "a"} }, 0, 1},
		{"nothing changed", func() {}, time.Hour, 1},
		{"the runtime is down", func() { down = errors.New("down") }, time.Minute, 1},
		{"it was restarted with another configuration, and the test fails", func() { down, id.Fingerprint, verified = nil, "b", false }, time.Minute, 2},
		{"it is too early for another try", func() {}, 50 * time.Second, 2},
		{"a minute later", func() {}, 10 * time.Second, 3},
		{"the pause has grown", func() {}, time.Minute, 3},
		{"two minutes later it passes", func() { verified = true }, time.Minute, 4},
		{"and rests", func() {}, time.Hour, 4},
	}
	for _, s := range steps {
		s.change()
		clock.Step(s.after)
		loop.Step(t.Context())
		if tests != s.tests {
			t.Errorf("%s: %d tests, want %d", s.name, tests, s.tests)
		}
	}
	if diff := cmp.Diff([]string{"containerd://2.3.7", "containerd://2.3.7"}, seen); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
}
