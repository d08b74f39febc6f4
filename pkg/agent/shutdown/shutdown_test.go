// SPDX-License-Identifier: Apache-2.0

package shutdown_test

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/agent/shutdown"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// machine is a logind in memory, and the node's pods.
type machine struct {
	clock   *clocktesting.FakeClock
	signals chan bool

	mu      sync.Mutex
	pods    int
	failing error // of looking at the pods
	log     []string
}

func (m *machine) say(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, what)
}

// told returns what happened since the last call.
func (m *machine) told() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	log := m.log
	m.log = nil
	return log
}

func (m *machine) set(pods int, failing error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pods, m.failing = pods, failing
}

func (m *machine) Delay(context.Context) (time.Duration, error) { return 30 * time.Second, nil }
func (m *machine) Shutdowns() <-chan bool                       { return m.signals }
func (m *machine) Close() error                                 { m.say("closed"); return nil }

func (m *machine) Inhibit(context.Context) (io.Closer, error) {
	m.say("locked")
	return closer(func() { m.say("let go") }), nil
}

type closer func()

func (c closer) Close() error { c(); return nil }

func (m *machine) watcher() *shutdown.Watcher {
	return &shutdown.Watcher{
		Connect: func(context.Context) (shutdown.Logind, error) { return m, nil },
		Pods: func(context.Context) (int, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.pods, m.failing
		},
		Announce: func(n *v1alpha1.NodeNotice) {
			if n == nil {
				m.say("called off")
				return
			}
			m.say("announced " + string(n.Cause) + " by " + n.Deadline.Sub(n.Since.Time).String())
		},
		Clock: m.clock,
	}
}

func begin(t *testing.T, w *shutdown.Watcher) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Start = %v", err)
		}
	})
}

// until runs the clock until something was told, and wants it to be that.
func (m *machine) until(t *testing.T, within time.Duration, want ...string) time.Duration {
	t.Helper()
	began, deadline := m.clock.Now(), time.After(20*time.Second)
	var got []string
	for len(got) < len(want) {
		select {
		case <-deadline:
			t.Fatalf("told %q, want %q", got, want)
		case <-time.After(time.Millisecond):
			got = append(got, m.told()...)
			if len(got) < len(want) && m.clock.HasWaiters() && m.clock.Since(began) < within {
				m.clock.Step(250 * time.Millisecond)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("told (-want +got):\n%s", diff)
	}
	return m.clock.Since(began)
}

func newMachine(pods int) *machine {
	return &machine{clock: clocktesting.NewFakeClock(start), signals: make(chan bool), pods: pods}
}

const announced = "announced Shutdown by 28s"

func TestShutdown(t *testing.T) {
	tests := map[string]struct {
		pods int
		then func(t *testing.T, m *machine)
	}{
		"there is no pod": {0, func(t *testing.T, m *machine) { m.until(t, 0, "let go") }},
		"the pods are saved": {2, func(t *testing.T, m *machine) {
			m.until(t, 0, announced)
			m.clock.Step(5 * time.Second)
			m.set(0, nil)
			if took := m.until(t, time.Minute, "let go"); took > time.Second {
				t.Errorf("let go after %s", took)
			}
		}},
		"a pod can't be saved in time": {2, func(t *testing.T, m *machine) {
			m.until(t, 0, announced)
			if took := m.until(t, time.Minute, "let go"); took < 29*time.Second || took > 30*time.Second {
				t.Errorf("let go after %s, want after 30 s", took)
			}
		}},
		"nobody can tell": {0, func(t *testing.T, m *machine) {
			m.until(t, 0, announced)
			if took := m.until(t, time.Minute, "let go"); took < 29*time.Second {
				t.Errorf("let go after %s, want after 30 s", took)
			}
		}},
		"it is called off": {2, func(t *testing.T, m *machine) {
			m.until(t, 0, announced)
			m.signals <- false
			m.until(t, 0, "called off")
			m.signals <- true // The lock is still held.
			m.until(t, 0, announced)
			m.set(0, nil)
			m.until(t, time.Minute, "let go")
		}},
		"it is called off when the pods are gone": {2, func(t *testing.T, m *machine) {
			m.until(t, 0, announced)
			m.set(0, nil)
			m.until(t, time.Minute, "let go")
			m.signals <- false
			m.until(t, 0, "called off", "locked")
		}},
		"the bus goes away": {2, func(t *testing.T, m *machine) {
			m.until(t, 0, announced)
			close(m.signals)
			m.until(t, 0, "let go", "closed")
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMachine(tc.pods)
			if name == "nobody can tell" {
				m.set(0, errors.New("containerd is away"))
			}
			begin(t, m.watcher())
			m.until(t, 0, "locked")
			m.signals <- true
			tc.then(t, m)
		})
	}
}

// TestReconnects takes a new lock once the bus is there again.
func TestReconnects(t *testing.T) {
	m := newMachine(0)
	w := m.watcher()
	tries := 0
	w.Connect = func(context.Context) (shutdown.Logind, error) {
		if tries++; tries < 4 {
			return nil, shutdown.ErrNoBus
		}
		return m, nil
	}
	begin(t, w)
	if took := m.until(t, time.Hour, "locked"); took < 10*time.Second || took > 2*time.Minute {
		t.Errorf("connected after %s", took)
	}
}
