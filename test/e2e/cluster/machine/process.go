// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// groupVariable marks every process of a cluster in its environment; the value is the cluster's directory.
const groupVariable = "CRYOPOD_CLUSTER_GROUP"

// GroupEnv is the environment entry that marks a process as part of the cluster whose directory is group.
func GroupEnv(group string) string { return groupVariable + "=" + group }

// Process is a process of the host, told from a later one of the same number by its start time.
type Process struct {
	PID int `json:"pid"`
	// Started is the start time in clock ticks after boot: field 22 of proc_pid_stat(5).
	Started uint64 `json:"started"`
}

// Identify describes the running process pid.
func Identify(pid int) (Process, error) {
	_, started, err := stat(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, Started: started}, nil
}

// Alive tells whether that very process runs. One that is dead but not reaped does not.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	state, started, err := stat(p.PID)
	return err == nil && started == p.Started && !ended(state)
}

// Signal sends sig, and nothing to a process that is gone.
func (p Process) Signal(sig unix.Signal) error {
	if !p.Alive() {
		return nil
	}
	if err := unix.Kill(p.PID, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("sending %v to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// WaitGone returns when the process is gone.
func (p Process) WaitGone(ctx context.Context) error {
	return poll(ctx, 10*time.Millisecond, fmt.Sprintf("process %d to end", p.PID), func() bool { return !p.Alive() })
}

// Save writes the process to a file that Load reads.
func (p Process) Save(path string) error { return writeJSON(path, p) }

// Load reads what Save wrote. The zero Process stands for no such file.
func Load(path string) (Process, error) {
	var p Process
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("reading a process record: %w", err)
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("decoding %q: %w", path, err)
	}
	return p, nil
}

// GroupProcesses lists the processes that carry the group's mark or live in its cgroups.
func GroupProcesses(group string) ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	mark := []byte(GroupEnv(group) + "\x00")
	inCgroup := []byte("/" + CgroupPath(group) + "/")
	var found []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// A process that ends meanwhile can't be read, and is no leftover.
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if !bytes.Contains(env, mark) {
			cgroups, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
			if !bytes.Contains(cgroups, inCgroup) {
				continue
			}
		}
		if p, err := Identify(pid); err == nil && p.Alive() {
			found = append(found, p)
		}
	}
	return found, nil
}

// Command is the process's command line, cut to a readable length.
func (p Process) Command() string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
	line := strings.TrimSpace(strings.ReplaceAll(string(data), "\x00", " "))
	if len(line) > 120 {
		line = line[:120] + "…"
	}
	return line
}

// stat reads a process's state and start time. The command's name may hold spaces and parentheses, so fields are
// counted from the last closing one.
func stat(pid int) (state byte, started uint64, err error) {
	state, started, err = readStat(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("reading the state of process %d: %w", pid, err)
	}
	return state, started, nil
}

// Started is when the process was started whose directory in a /proc, which may be a machine's, is dir. It is 0 when there is none such, or
// it has ended.
func Started(dir string) uint64 {
	state, started, err := readStat(filepath.Join(dir, "stat"))
	if err != nil || ended(state) {
		return 0
	}
	return started
}

func ended(state byte) bool { return state == 'Z' || state == 'X' }

func readStat(path string) (state byte, started uint64, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const stateField, startField = 0, 19
	if len(fields) <= startField {
		return 0, 0, fmt.Errorf("%d fields in %q", len(fields), path)
	}
	started, err = strconv.ParseUint(fields[startField], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("parsing the start time: %w", err)
	}
	return fields[stateField][0], started, nil
}

// poll calls done until it returns true. It is for what the kernel gives no notice of.
func poll(ctx context.Context, every time.Duration, what string, done func() bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if done() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}
