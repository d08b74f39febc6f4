// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cryopod/cryopod/test/e2e/chaos/fault"
)

// clockVariable has the test's program answer each line with the time and with how long it has run, as Go programs see them.
const clockVariable = "CRYOPOD_TEST_CLOCK"

func TestMain(m *testing.M) {
	if os.Getenv(clockVariable) == "" {
		os.Exit(m.Run())
	}
	begun := time.Now()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Printf("%d %d\n", time.Now().Unix(), time.Since(begun).Milliseconds())
	}
}

// TestSkew sets the clock of a running program, and right again. Its timers must not notice.
func TestSkew(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("only for amd64")
	}
	program := exec.CommandContext(t.Context(), os.Args[0])
	program.Env = append(os.Environ(), clockVariable+"=yes")
	in, err := program.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(out)
	off := func() (wall, ran time.Duration) {
		t.Helper()
		if _, err := io.WriteString(in, "\n"); err != nil || !answers.Scan() {
			t.Fatalf("the program does not answer: %v, %v", err, answers.Err())
		}
		var unix, milliseconds int64
		if _, err := fmt.Fscan(strings.NewReader(answers.Text()), &unix, &milliseconds); err != nil {
			t.Fatal(err)
		}
		return time.Until(time.Unix(unix, 0)).Round(time.Minute), time.Duration(milliseconds) * time.Millisecond
	}
	if wall, _ := off(); wall != 0 {
		t.Fatalf("the clock is off by %v before anything was done", wall)
	}
	dir := fmt.Sprintf("/proc/%d", program.Process.Pid)
	at, _, _, err := fault.ClockOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	right := make([]byte, len(fault.Skewed(0)))
	if err := fault.ReadMemory(dir, at, right); err != nil {
		t.Fatal(err)
	}
	for _, jump := range []time.Duration{2 * time.Hour, -90 * time.Minute} {
		stopped(t, program, func() error { return fault.WriteClock(dir, fault.Skewed(int32(jump.Seconds()))) })
		if wall, ran := off(); wall != jump || ran < 0 || ran > time.Minute {
			t.Errorf("after a jump by %v the clock is off by %v, and the program has run for %v", jump, wall, ran)
		}
	}
	stopped(t, program, func() error { return fault.WriteClock(dir, right) })
	if wall, _ := off(); wall != 0 {
		t.Errorf("the clock is off by %v after it was set right", wall)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := program.Wait(); err != nil {
		t.Errorf("the program ended with %v", err)
	}
}

// stopped calls write while the program stands still, again and again while a thread stands in the way.
func stopped(t *testing.T, program *exec.Cmd, write func() error) {
	t.Helper()
	for {
		if err := program.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		err := write()
		if err := program.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, fault.ErrBusy) || t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}
