// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
)

// Process is a program of a test that runs in the cluster's network, but with the host's files.
type Process struct {
	process machine.Process
	record  string
	log     string
}

// StartProcess starts a program of the host in the network namespace of the control plane, where every pod reaches it
// at ControlPlaneIP. It ends with Stop or Down. A running one of the same name is ended first.
func (c *Cluster) StartProcess(ctx context.Context, name string, argv []string, env []string) (*Process, error) {
	if len(argv) == 0 || name == "" || strings.ContainsRune(name, '/') {
		return nil, fmt.Errorf("starting process %q: a plain name and a program are needed", name)
	}
	p := &Process{
		record: filepath.Join(c.layout.processes(), name+".json"),
		log:    filepath.Join(c.layout.logs(), name+".log"),
	}
	before, err := machine.Load(p.record)
	if err != nil {
		return nil, err
	}
	if err := (&Process{process: before, record: p.record}).Stop(ctx); err != nil {
		return nil, err
	}
	m, err := c.controlPlane()
	if err != nil {
		return nil, err
	}
	ns, err := os.Open(m.NetNS())
	if err != nil {
		return nil, fmt.Errorf("opening the cluster's network: %w", err)
	}
	defer ns.Close()
	out, err := createLog(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), env...), machine.GroupEnv(c.layout.dir))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := os.MkdirAll(filepath.Dir(p.record), 0o755); err != nil {
		return nil, fmt.Errorf("creating the folder of process records: %w", err)
	}
	err = machine.InNetNS(ns, func() error {
		var err error
		p.process, err = machine.Spawn(cmd, p.record)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("starting process %q: %w", name, err)
	}
	return p, nil
}

// Alive tells whether the process still runs.
func (p *Process) Alive() bool { return p.process.Alive() }

// PID is the process's number on the host.
func (p *Process) PID() int { return p.process.PID }

// LogTail is the end of what the process wrote.
func (p *Process) LogTail(lines int) string { return machine.Tail(p.log, lines) }

// Stop ends the process at once and returns when it is gone.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.process.Signal(unix.SIGKILL); err != nil {
		return err
	}
	if err := p.process.WaitGone(ctx); err != nil {
		return err
	}
	if err := os.Remove(p.record); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing a process record: %w", err)
	}
	return nil
}

func createLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("creating the folder of log %q: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening log %q: %w", path, err)
	}
	return f, nil
}
