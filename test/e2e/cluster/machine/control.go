// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// controlService is the name under which init serves Control.
const controlService = "Control"

// Control is what init lets the host ask of it, by its socket.
type Control struct {
	super *supervisor
}

// Start makes a stopped component run.
func (c *Control) Start(name string, _ *struct{}) error { return c.super.set(name, true) }

// Stop ends a component until Start.
func (c *Control) Stop(name string, _ *struct{}) error { return c.super.set(name, false) }

// Restart ends a component, which begins anew at once.
func (c *Control) Restart(name string, _ *struct{}) error { return c.super.restart(name) }

// Status lists the components.
func (c *Control) Status(_ struct{}, all *[]ComponentStatus) error {
	*all = c.super.list()
	return nil
}

// listen opens the control socket. It is bound by a path relative to an open directory, as the address of a socket
// holds no more than 107 characters.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing a stale control socket: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("opening the control socket's folder: %w", err)
	}
	defer dir.Close()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", shortPath(dir, path))
	if err != nil {
		return nil, fmt.Errorf("opening control socket %q: %w", path, err)
	}
	return l, nil
}

func shortPath(dir *os.File, path string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
}

func serve(l net.Listener, super *supervisor) {
	server := rpc.NewServer()
	if err := server.RegisterName(controlService, &Control{super: super}); err != nil {
		log.Printf("serving the control socket: %v", err)
		return
	}
	server.Accept(l)
}

// call asks the machine's init.
func (m *Machine) call(ctx context.Context, method string, args, reply any) error {
	path := filepath.Join(m.Spec.Dir, socketFile)
	dir, err := os.Open(m.Spec.Dir)
	if err != nil {
		return fmt.Errorf("reaching machine %q: %w", m.Spec.Name, err)
	}
	defer dir.Close()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", shortPath(dir, path))
	if err != nil {
		return fmt.Errorf("reaching machine %q: %w", m.Spec.Name, err)
	}
	client := rpc.NewClient(conn)
	defer client.Close()
	select {
	case <-ctx.Done():
		return fmt.Errorf("asking machine %q to %s: %w", m.Spec.Name, method, ctx.Err())
	case done := <-client.Go(controlService+"."+method, args, reply, nil).Done:
		if done.Error != nil {
			return fmt.Errorf("asking machine %q to %s: %w", m.Spec.Name, method, done.Error)
		}
		return nil
	}
}

// StartComponent makes a component run that StopComponent ended.
func (m *Machine) StartComponent(ctx context.Context, name string) error {
	return m.call(ctx, "Start", name, &struct{}{})
}

// StopComponent ends a component and keeps it down.
func (m *Machine) StopComponent(ctx context.Context, name string) error {
	return m.call(ctx, "Stop", name, &struct{}{})
}

// RestartComponent ends a component, which begins anew at once.
func (m *Machine) RestartComponent(ctx context.Context, name string) error {
	return m.call(ctx, "Restart", name, &struct{}{})
}

// Status lists the machine's components by name.
func (m *Machine) Status(ctx context.Context) ([]ComponentStatus, error) {
	var all []ComponentStatus
	if err := m.call(ctx, "Status", struct{}{}, &all); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b ComponentStatus) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}
