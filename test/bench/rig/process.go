// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// patience is how long a program may take until it is ready.
const patience = 10 * time.Minute

// Process is a running program.
type Process struct {
	// Name tells it from others in its log's name.
	Name string

	command *exec.Cmd
	log     string
	done    chan struct{}
	err     error
}

// Start starts a program as its kubeconfig's user.
func (b *Bed) Start(name, path, kubeconfig string, args ...string) (*Process, error) {
	p := &Process{Name: name, log: filepath.Join(b.Dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("making the log of %q: %w", name, err)
	}
	defer log.Close()
	p.command = exec.Command(path, args...)
	p.command.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	p.command.Stdout, p.command.Stderr = log, log
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting %q: %w", name, err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is its process.
func (p *Process) PID() int { return p.command.Process.Pid }

// Done is closed once it has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends it with SIGKILL, and waits until it has.
func (p *Process) Kill() {
	_ = p.command.Process.Kill()
	<-p.done
}

// Terminate asks it to end, as a kubelet does, and does not wait.
func (p *Process) Terminate() error {
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending %q: %w", p.Name, err)
	}
	return nil
}

// Ended waits until it has ended, and returns what it ended with.
func (p *Process) Ended() error {
	<-p.done
	if p.err != nil {
		return fmt.Errorf("%q ended: %w\n%s", p.Name, p.err, p.Log())
	}
	return nil
}

// Log is what it has said so far.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Count counts the lines of its log that contain the text.
func (p *Process) Count(text string) int {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return 0
	}
	return bytes.Count(log, []byte(text))
}

// probes is a client for what the programs serve with certificates of their own.
var probes = &http.Client{
	Timeout:   5 * time.Second,
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, //nolint:gosec // loopback
}

// Answers tells whether the address answers 200.
func Answers(ctx context.Context, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	response, err := probes.Do(request)
	if err != nil {
		return false
	}
	return response.Body.Close() == nil && response.StatusCode == http.StatusOK
}

// AwaitReady waits until the address answers 200.
func (p *Process) AwaitReady(ctx context.Context, url string) error {
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		select {
		case <-p.done:
			return false, p.Ended()
		default:
			return Answers(ctx, url), nil
		}
	})
	if err != nil {
		return fmt.Errorf("waiting for %q to be ready: %w\n%s", p.Name, err, p.Log())
	}
	return nil
}

// FreePort is a TCP port of loopback that nobody listens on.
func FreePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
