// SPDX-License-Identifier: Apache-2.0

package machine_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
)

// superviseVariable makes the test's program a supervisor: one reaps every child of its process, those of other tests
// too.
const superviseVariable = "CRYOPOD_TEST_SUPERVISE"

func TestMain(m *testing.M) {
	if os.Getenv(superviseVariable) == "" {
		os.Exit(m.Run())
	}
	if err := supervised(os.Getenv(superviseVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestSupervise(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), superviseVariable+"="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

type failure string

func (f failure) Error() string { return string(f) }

// supervised is the test's body, in a process of its own.
func supervised(dir string) error {
	gate := filepath.Join(dir, "gate.sock")
	s := machine.Supervise(dir, []machine.Component{
		{Name: "steady", Argv: []string{"sleep", "1000"}},
		{Name: "failing", Argv: []string{"sh", "-c", "echo broken; exit 3"}},
		{Name: "waiting", Argv: []string{"sleep", "1000"}, WaitFor: []string{"unix:" + gate}},
	})
	pid := func(name string) int { return s.Status(name).PID }
	if !reached(func() bool { return pid("steady") != 0 }) {
		return failure("a component was not started")
	}
	if !reached(func() bool {
		return s.Status("failing").Restarts >= 1 && s.Status("failing").LastExit == "exit status 3"
	}) {
		return failure("a component that ends was not started again")
	}
	if machine.Tail(filepath.Join(dir, "failing.log"), 1) != "broken" {
		return failure("a component's output is not in its log")
	}
	first := pid("steady")
	if err := s.Restart("steady"); err != nil {
		return err
	}
	if !reached(func() bool { return pid("steady") != 0 && pid("steady") != first }) {
		return failure("a component was not restarted")
	}
	if err := s.Set("steady", false); err != nil {
		return err
	}
	if pid("steady") != 0 {
		return failure("a stopped component runs")
	}
	if err := s.Set("steady", true); err != nil {
		return err
	}
	if !reached(func() bool { return pid("steady") != 0 }) {
		return failure("a component was not started after a stop")
	}
	if pid("waiting") != 0 {
		return failure("a component did not wait for its address")
	}
	l, err := net.Listen("unix", gate)
	if err != nil {
		return err
	}
	defer l.Close()
	if !reached(func() bool { return pid("waiting") != 0 }) {
		return failure("a component was not started when its address was there")
	}
	if s.Set("unknown", true) == nil {
		return failure("an unknown component was started")
	}
	return nil
}

func reached(condition func() bool) bool {
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			return false
		case <-tick.C:
		}
	}
	return true
}
