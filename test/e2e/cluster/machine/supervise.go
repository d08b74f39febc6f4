// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 5 * time.Second
	// steady is how long a component must have run for its next restart to be immediate again.
	steady = 10 * time.Second
	// stopGrace is how long a component may take to end when asked.
	stopGrace = 5 * time.Second
)

// ComponentStatus is what init knows of a component.
type ComponentStatus struct {
	Name string
	// PID is its number within the machine; 0 while it does not run.
	PID int
	// Restarts counts the starts after the first.
	Restarts int
	// Since is when it was started last.
	Since time.Time
	// Wanted is false after it was stopped on request.
	Wanted bool
	// LastExit says how its last run ended; empty before.
	LastExit string
}

// component is a running or stopped program. All fields below mu of its supervisor.
type component struct {
	Component
	status ComponentStatus
	exited chan struct{} // closed when the current run ends
	wake   chan struct{} // tells the loop that Wanted changed
}

// supervisor keeps components running and reaps every process of the machine.
type supervisor struct {
	logs string // directory

	mu         sync.Mutex
	components map[string]*component
	byPID      map[int]*component
}

func newSupervisor(logs string, list []Component) *supervisor {
	s := &supervisor{logs: logs, components: map[string]*component{}, byPID: map[int]*component{}}
	for _, c := range list {
		s.components[c.Name] = &component{Component: c, status: ComponentStatus{Name: c.Name, Wanted: true}, wake: make(chan struct{}, 1)}
	}
	return s
}

// run starts everything and never returns.
func (s *supervisor) run() {
	children := make(chan os.Signal, 16)
	signal.Notify(children, unix.SIGCHLD)
	for _, c := range s.components {
		go s.keep(c)
	}
	for range children {
		s.reap()
	}
}

// reap collects every process that ended, orphans of containers included.
func (s *supervisor) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		s.mu.Lock()
		if c, ok := s.byPID[pid]; ok {
			delete(s.byPID, pid)
			c.status.PID = 0
			c.status.LastExit = describe(status)
			close(c.exited)
		}
		s.mu.Unlock()
	}
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return "killed by " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// keep runs one component for as long as it is wanted.
func (s *supervisor) keep(c *component) {
	backoff := firstBackoff
	for starts := 0; ; {
		s.mu.Lock()
		wanted := c.status.Wanted
		s.mu.Unlock()
		if !wanted {
			<-c.wake
			continue
		}
		for _, address := range c.WaitFor {
			waitFor(address)
		}
		exited, err := s.spawn(c, starts)
		starts++
		if err != nil {
			log.Printf("starting %s: %v", c.Name, err)
		} else {
			<-exited
		}
		s.mu.Lock()
		ran, wanted, how := time.Since(c.status.Since), c.status.Wanted, c.status.LastExit
		s.mu.Unlock()
		log.Printf("%s ended after %s: %s", c.Name, ran.Round(time.Millisecond), how)
		if ran >= steady {
			backoff = firstBackoff
		}
		if wanted {
			select {
			case <-time.After(backoff):
			case <-c.wake:
			}
			backoff = min(2*backoff, maxBackoff)
		}
	}
}

// spawn starts the program once. It holds the lock from before the fork, so that reap knows the process however soon
// it ends.
func (s *supervisor) spawn(c *component, starts int) (<-chan struct{}, error) {
	out, err := os.OpenFile(filepath.Join(s.logs, c.Name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening its log: %w", err)
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("opening its input: %w", err)
	}
	defer null.Close()
	path, err := exec.LookPath(c.Argv[0])
	if err != nil {
		return nil, fmt.Errorf("finding its program: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := syscall.ForkExec(path, c.Argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   append(os.Environ(), c.Env...),
		Files: []uintptr{null.Fd(), out.Fd(), out.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	c.status.Since, c.status.Restarts = time.Now(), starts
	if err != nil {
		c.status.LastExit = err.Error()
		return nil, fmt.Errorf("running %q: %w", path, err)
	}
	c.exited = make(chan struct{})
	c.status.PID = pid
	s.byPID[pid] = c
	return c.exited, nil
}

// set makes a component run or not, and returns when it does.
func (s *supervisor) set(name string, wanted bool) error {
	s.mu.Lock()
	c, ok := s.components[name]
	if !ok {
		s.mu.Unlock()
		return fmt.Errorf("no component %q", name)
	}
	c.status.Wanted = wanted
	pid, exited := c.status.PID, c.exited
	s.mu.Unlock()
	if !wanted && pid != 0 {
		s.end(pid, exited)
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// restart ends the component's current run; the next one begins at once.
func (s *supervisor) restart(name string) error {
	if err := s.set(name, false); err != nil {
		return err
	}
	return s.set(name, true)
}

// end asks a process to end, and ends it when it does not.
func (s *supervisor) end(pid int, exited <-chan struct{}) {
	_ = unix.Kill(pid, unix.SIGTERM)
	select {
	case <-exited:
	case <-time.After(stopGrace):
		_ = unix.Kill(pid, unix.SIGKILL)
		<-exited
	}
}

func (s *supervisor) list() []ComponentStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []ComponentStatus
	for _, c := range s.components {
		all = append(all, c.status)
	}
	return all
}

// waitFor returns when the address accepts a connection. It waits without end: the one who started the machine has the
// deadline.
func waitFor(address string) {
	network, addr, _ := strings.Cut(address, ":")
	ctx, dialer := context.Background(), net.Dialer{Timeout: time.Second}
	_ = poll(ctx, 25*time.Millisecond, address, func() bool {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
}
