// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageVariable tells the second run of init, within the machine's cgroup namespace, from the first.
const stageVariable = "CRYOPOD_MACHINE_STAGE"

// bridgeNSFile is the file descriptor at which init finds the network namespace of the bridge's owner.
const bridgeNSFile = 3

// Init is the first process of a machine. It is started by Start in new namespaces, and returns only on an error.
func Init(dir string) error {
	s, err := readSpec(dir)
	if err != nil {
		return err
	}
	if os.Getenv(stageVariable) == "" {
		return enterCgroups(s)
	}
	if err := os.Unsetenv(stageVariable); err != nil {
		return fmt.Errorf("clearing the environment: %w", err)
	}
	if err := unix.Sethostname([]byte(s.Name)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	// Before the pivot: afterwards the host's path can't be seen.
	listener, err := listen(filepath.Join(s.Dir, socketFile))
	if err != nil {
		return err
	}
	if err := assemble(s); err != nil {
		return err
	}
	if err := nestCgroup(s); err != nil {
		return err
	}
	// After assemble: the settings are those of the /proc of this network namespace.
	if err := connect(s.Network, bridgeNSFile); err != nil {
		return err
	}
	if s.Network.Port != "" {
		if err := unix.Close(bridgeNSFile); err != nil {
			return fmt.Errorf("closing the bridge's network namespace: %w", err)
		}
	}
	super := newSupervisor(logMount, s.Components)
	go serve(listener, super)
	log.Printf("machine %s is up", s.Name)
	super.run()
	return nil
}

// enterCgroups puts the process into the machine's cgroups, makes them the root of a cgroup namespace, and runs the
// program anew: a namespace is a property of a thread, and only exec leaves just the one that has entered.
func enterCgroups(s *Spec) error {
	runtime.LockOSThread()
	for _, c := range s.Cgroups {
		if err := c.create(); err != nil {
			return err
		}
		if err := c.join(); err != nil {
			return err
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("entering a cgroup namespace: %w", err)
	}
	env := []string{
		"PATH=" + searchPath, "HOME=/root", "LANG=C.UTF-8",
		GroupEnv(s.Group), stageVariable + "=2",
	}
	if err := syscall.Exec(os.Args[0], os.Args, env); err != nil {
		return fmt.Errorf("running %q anew: %w", os.Args[0], err)
	}
	return nil
}

// nestCgroup moves init to a leaf of the machine's version 2 cgroup, whose root must have no processes of its own to
// have controllers for the pods' cgroups.
func nestCgroup(s *Spec) error {
	if len(s.Cgroups) == 0 || !s.Cgroups[0].unified() {
		return nil
	}
	const root = "/sys/fs/cgroup"
	leaf := Cgroup{Path: filepath.Join(root, "init")}
	if err := os.MkdirAll(leaf.Path, 0o755); err != nil {
		return fmt.Errorf("creating cgroup %q: %w", leaf.Path, err)
	}
	if err := leaf.join(); err != nil {
		return err
	}
	return delegate(root)
}
