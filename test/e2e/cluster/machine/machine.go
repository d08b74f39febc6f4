// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// freezeTimeout bounds the freezing before a kill. A machine that can't be frozen is killed running.
const freezeTimeout = 2 * time.Second

// Machine is a machine seen from the host. Its methods may be called concurrently.
type Machine struct {
	Spec Spec
	init Process
}

// Start starts a machine by the helper program, which must call Init. bridgeOwner is the machine that the network hangs
// on; nil for the machine that owns the bridge. The machine outlives the caller.
func Start(helper string, s Spec, bridgeOwner *Machine) (*Machine, error) {
	logs := filepath.Join(s.Dir, logDir)
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, fmt.Errorf("creating the folder of machine %q: %w", s.Name, err)
	}
	if err := writeJSON(filepath.Join(s.Dir, specFile), s); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(filepath.Join(logs, initLog+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of machine %q: %w", s.Name, err)
	}
	defer out.Close()
	cmd := exec.CommandContext(context.Background(), helper, "init", s.Dir)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + searchPath, GroupEnv(s.Group)}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	if bridgeOwner != nil {
		ns, err := os.Open(bridgeOwner.NetNS())
		if err != nil {
			return nil, fmt.Errorf("opening the network namespace of machine %q: %w", bridgeOwner.Spec.Name, err)
		}
		defer ns.Close()
		cmd.ExtraFiles = []*os.File{ns}
	}
	p, err := Spawn(cmd, filepath.Join(s.Dir, processFile))
	if err != nil {
		return nil, fmt.Errorf("starting machine %q: %w", s.Name, err)
	}
	return &Machine{Spec: s, init: p}, nil
}

// Spawn starts a command that outlives the caller, and records it in a file. It is reaped while the caller lives.
func Spawn(cmd *exec.Cmd, record string) (Process, error) {
	if err := cmd.Start(); err != nil {
		return Process{}, err
	}
	p, err := Identify(cmd.Process.Pid)
	go func() { _ = cmd.Wait() }()
	if err == nil {
		err = p.Save(record)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return Process{}, err
	}
	return p, nil
}

// Open finds the machine whose directory is dir, running or not.
func Open(dir string) (*Machine, error) {
	s, err := readSpec(dir)
	if err != nil {
		return nil, err
	}
	p, err := Load(filepath.Join(dir, processFile))
	if err != nil {
		return nil, err
	}
	return &Machine{Spec: *s, init: p}, nil
}

// Alive tells whether the machine runs.
func (m *Machine) Alive() bool { return m.init.Alive() }

// PID is the host's number of the machine's init.
func (m *Machine) PID() int { return m.init.PID }

// NetNS is the path of the machine's network namespace.
func (m *Machine) NetNS() string { return fmt.Sprintf("/proc/%d/ns/net", m.init.PID) }

// Freeze stops all processes of the machine at once.
func (m *Machine) Freeze(ctx context.Context) error {
	f, ok := freezer(m.Spec.Cgroups)
	if !ok {
		return fmt.Errorf("freezing machine %q: it has no freezer cgroup", m.Spec.Name)
	}
	return f.setFrozen(ctx, true)
}

// Thaw lets a frozen machine go on.
func (m *Machine) Thaw(ctx context.Context) error {
	f, ok := freezer(m.Spec.Cgroups)
	if !ok {
		return fmt.Errorf("thawing machine %q: it has no freezer cgroup", m.Spec.Name)
	}
	return f.setFrozen(ctx, false)
}

// Kill ends the machine as a power cut does: it is frozen first, so that none of its processes sees another die. Its
// disk stays. Killing a machine that is down does nothing.
func (m *Machine) Kill(ctx context.Context) error {
	f, freezes := freezer(m.Spec.Cgroups)
	if freezes && m.Alive() {
		bound, cancel := context.WithTimeout(ctx, freezeTimeout)
		_ = f.setFrozen(bound, true)
		cancel()
		for _, p := range f.processes() {
			if err := p.Signal(unix.SIGKILL); err != nil {
				return err
			}
		}
	}
	if err := m.init.Signal(unix.SIGKILL); err != nil {
		return err
	}
	if err := poll(ctx, 10*time.Millisecond, fmt.Sprintf("machine %q to end", m.Spec.Name), func() bool {
		if freezes {
			f.thawTree()
		}
		return !m.Alive()
	}); err != nil {
		return err
	}
	var errs []error
	for _, c := range m.Spec.Cgroups {
		errs = append(errs, c.remove(ctx))
	}
	return errors.Join(errs...)
}

// Command prepares a command within the machine's namespaces.
func (m *Machine) Command(ctx context.Context, argv ...string) *exec.Cmd {
	args := []string{
		fmt.Sprintf("--target=%d", m.init.PID), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
	}
	cmd := exec.CommandContext(ctx, "nsenter", append(args, argv...)...)
	cmd.Env = []string{"PATH=" + searchPath + ":" + os.Getenv("PATH"), "HOME=/root", "LANG=C.UTF-8", GroupEnv(m.Spec.Group)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// nsenter forks: the group is what has to end.
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// LogTail is the end of a component's log; "init" names that of the machine itself. It is empty where there is none.
func (m *Machine) LogTail(component string, lines int) string {
	return Tail(m.LogPath(component), lines)
}

// LogPath is the host's path of a component's log.
func (m *Machine) LogPath(component string) string {
	return filepath.Join(m.Spec.Dir, logDir, component+".log")
}

// Tail is the last lines of a file; empty when it can't be read.
func Tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
