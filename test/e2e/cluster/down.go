// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
)

// downTimeout bounds the removal of a cluster.
const downTimeout = 60 * time.Second

// Down removes a cluster and everything that it stored, also what a killed run left. It is no error when there is none.
func Down(ctx context.Context, name string) error {
	return end(ctx, name, func(l layout) error { return errors.Join(l.removeFiles(), l.forget()) })
}

// Stop ends all of a cluster but keeps its files, its logs among them, to be read. The next Up or Down removes them.
func Stop(ctx context.Context, name string) error {
	return end(ctx, name, func(layout) error { return nil })
}

func end(ctx context.Context, name string, clean func(layout) error) error {
	l, err := newLayout(name)
	if err != nil {
		return err
	}
	release, err := l.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := l.stop(ctx); err != nil {
		return fmt.Errorf("stopping cluster %q: %w", name, err)
	}
	return clean(l)
}

// stop ends every process of the cluster and removes its cgroups. Mounts and network namespaces go with the processes.
func (l layout) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	// First of all: nobody may take a half-stopped cluster for a running one.
	if err := os.Remove(l.state()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the cluster's state: %w", err)
	}
	entries, err := os.ReadDir(filepath.Dir(l.machine("any")))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listing machines: %w", err)
	}
	var group errgroup.Group
	for _, e := range entries {
		m, err := machine.Open(l.machine(e.Name()))
		if err != nil {
			continue // killed before it was described: it has no process yet, or the search below finds it
		}
		group.Go(func() error { return m.Kill(ctx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := l.killRest(ctx); err != nil {
		return err
	}
	return machine.RemoveGroupCgroups(ctx, l.dir)
}

// killRest ends what belongs to the cluster without being in a machine's record: forwarders, processes of tests, and
// what a killed run did not come to record.
func (l layout) killRest(ctx context.Context) error {
	for {
		rest, err := machine.GroupProcesses(l.dir)
		if err != nil || len(rest) == 0 {
			return err
		}
		for _, p := range rest {
			if err := p.Signal(unix.SIGKILL); err != nil {
				return err
			}
		}
		for _, p := range rest {
			if err := p.WaitGone(ctx); err != nil {
				return fmt.Errorf("ending %q: %w", p.Command(), err)
			}
		}
	}
}

func (l layout) removeFiles() error {
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("removing the files of the cluster: %w", err)
	}
	return nil
}

// forget removes the lock, which the caller holds, and the directory of all clusters when this was the last.
func (l layout) forget() error {
	if err := os.Remove(l.lock()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the cluster's lock: %w", err)
	}
	_ = os.Remove(l.base)
	return nil
}

// Leftovers lists what exists of a cluster: processes, mounts, cgroups, files. It is empty after Down.
func Leftovers(name string) ([]string, error) {
	l, err := newLayout(name)
	if err != nil {
		return nil, err
	}
	var found []string
	processes, err := machine.GroupProcesses(l.dir)
	if err != nil {
		return nil, err
	}
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("reading own network namespace: %w", err)
	}
	for _, p := range processes {
		found = append(found, fmt.Sprintf("process %d: %s", p.PID, p.Command()))
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.PID)); err == nil && ns != home {
			found = append(found, fmt.Sprintf("network namespace %s of process %d", ns, p.PID))
		}
	}
	mounts, err := machine.GroupMounts(l.dir)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		found = append(found, "mount "+m)
	}
	cgroups, err := machine.GroupCgroups(l.dir)
	if err != nil {
		return nil, err
	}
	for _, c := range cgroups {
		found = append(found, "cgroup "+c)
	}
	if _, err := os.Lstat(l.dir); err == nil {
		found = append(found, "directory "+l.dir)
	}
	return found, nil
}
