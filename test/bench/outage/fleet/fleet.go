// SPDX-License-Identifier: Apache-2.0

// Package fleet runs the webhook's replicas as a Deployment and its kubelets would: one that is killed starts again in its place, one that is
// told to end is replaced by another at once, and the Service learns of either only after a while.
package fleet

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cryopod/cryopod/test/bench/outage/service"
	"github.com/cryopod/cryopod/test/bench/rig"
)

// Options say how fast the cluster follows.
type Options struct {
	// Program is the webhook's.
	Program string
	// Replicas is how many are wanted.
	Replicas int
	// Lag is the time from a replica's being ready, or its end, to the Service's following it: the kubelet, the EndpointSlice, kube-proxy.
	Lag time.Duration
	// Probe is the period of the readiness probe.
	Probe time.Duration
	// Delay is the replicas' --shutdown-delay.
	Delay time.Duration
}

// Fleet is the replicas.
type Fleet struct {
	Options
	bed     *rig.Bed
	service *service.Service

	mu      sync.Mutex
	members []*member // that are wanted, the one that lives longest first
	leaving sync.WaitGroup
	logs    []*rig.Process
	starts  []time.Duration
	errs    []error
	made    int
}

// member is a replica: a pod, whose container may start again.
type member struct {
	name        string
	port, probe int
	endpoint    *service.Endpoint
	process     *rig.Process
	ready       bool
	gone        chan struct{}
}

// Start starts the replicas, and returns once all of them are ready. The caller has to call Stop.
func Start(ctx context.Context, b *rig.Bed, s *service.Service, o Options) (*Fleet, error) {
	f := &Fleet{Options: o, bed: b, service: s}
	for range o.Replicas {
		if err := f.add(ctx); err != nil {
			f.Stop()
			return nil, err
		}
	}
	if err := f.awaitReady(ctx, o.Replicas); err != nil {
		f.Stop()
		return nil, err
	}
	return f, nil
}

// Stop kills what there is.
func (f *Fleet) Stop() {
	f.mu.Lock()
	members := f.members
	f.members = nil
	f.mu.Unlock()
	for _, m := range members {
		close(m.gone)
		m.process.Kill()
	}
	f.leaving.Wait()
}

// add makes another replica.
func (f *Fleet) add(ctx context.Context) error {
	m := &member{gone: make(chan struct{})}
	for _, port := range []*int{&m.port, &m.probe} {
		free, err := rig.FreePort(ctx)
		if err != nil {
			return err
		}
		*port = free
	}
	m.endpoint = &service.Endpoint{Address: fmt.Sprintf("127.0.0.1:%d", m.port)}
	if err := f.run(m); err != nil {
		return err
	}
	f.mu.Lock()
	f.members = append(f.members, m)
	f.mu.Unlock()
	go f.watch(ctx, m)
	return nil
}

// run starts the member's container.
func (f *Fleet) run(m *member) (err error) {
	f.mu.Lock()
	f.made++
	m.name = fmt.Sprintf("webhook-%d", f.made)
	f.mu.Unlock()
	p, err := f.bed.Start(m.name, f.Program, f.bed.Kubeconfig("webhook"), "--metrics-address=0", "--log-format=text",
		"--shutdown-delay="+f.Delay.String(),
		fmt.Sprintf("--webhook-port=%d", m.port), fmt.Sprintf("--probe-address=127.0.0.1:%d", m.probe))
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	m.process = p
	f.logs = append(f.logs, p)
	return nil
}

// watch probes the member and tells the Service, until the member is gone.
func (f *Fleet) watch(ctx context.Context, m *member) {
	began := time.Now()
	for {
		ready := rig.Answers(ctx, fmt.Sprintf("http://127.0.0.1:%d/readyz", m.probe))
		f.mu.Lock()
		switch {
		case ready && !m.ready:
			f.starts = append(f.starts, time.Since(began))
			m.endpoint.Is(service.Alive)
			time.AfterFunc(f.Lag, func() { f.enlist(m) })
		case !ready && m.ready:
			began = time.Now()
			time.AfterFunc(f.Lag, func() { f.service.Remove(m.endpoint) })
		}
		m.ready = ready
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-m.gone:
			return
		case <-time.After(f.Probe):
		}
	}
}

// enlist adds the member to the Service, unless it has gone or died meanwhile.
func (f *Fleet) enlist(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-m.gone:
		return
	default:
	}
	if m.ready {
		f.service.Add(m.endpoint)
	}
}

// victim is the replica that lives longest, once another one is ready.
func (f *Fleet) victim(ctx context.Context) (*member, error) {
	if err := f.awaitReady(ctx, 2); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, m := range f.members {
		if m.ready {
			f.members = append(append(f.members[:i:i], f.members[i+1:]...), m)
			return m, nil
		}
	}
	return nil, fmt.Errorf("looking for a replica to end: none of %d is ready", len(f.members))
}

// Kill ends a replica with SIGKILL. It starts again in its place.
func (f *Fleet) Kill(ctx context.Context) error {
	m, err := f.victim(ctx)
	if err != nil {
		return err
	}
	m.endpoint.Is(service.Killed)
	m.process.Kill()
	f.mu.Lock()
	m.ready = false
	f.mu.Unlock()
	time.AfterFunc(f.Lag, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !m.ready {
			f.service.Remove(m.endpoint)
		}
	})
	return f.run(m)
}

// Terminate asks a replica to end, as a rollout or a drain does, and makes another one.
func (f *Fleet) Terminate(ctx context.Context) error {
	m, err := f.victim(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.members = f.members[:len(f.members)-1]
	f.mu.Unlock()
	close(m.gone)
	m.endpoint.Is(service.Terminated)
	time.AfterFunc(f.Lag, func() { f.service.Remove(m.endpoint) })
	if err := m.process.Terminate(); err != nil {
		return err
	}
	f.leaving.Go(func() {
		if err := m.process.Ended(); err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.errs = append(f.errs, err)
		}
	})
	return f.add(ctx)
}

// awaitReady waits until so many replicas are ready.
func (f *Fleet) awaitReady(ctx context.Context, want int) error {
	const patience = 2 * time.Minute
	for began := time.Now(); ; {
		f.mu.Lock()
		n := 0
		for _, m := range f.members {
			if m.ready {
				n++
			}
		}
		f.mu.Unlock()
		if n >= want {
			return nil
		}
		if time.Since(began) > patience {
			return fmt.Errorf("waiting for %d ready replicas: there are %d; the last one's log:\n%s", want, n, f.logs[len(f.logs)-1].Log())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Starts are the times from a replica's start, or its end, to its being ready again.
func (f *Fleet) Starts() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Duration(nil), f.starts...)
}

// Errors are what replicas ended with that were asked to end.
func (f *Fleet) Errors() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]error(nil), f.errs...)
}

// Refused are the lines of the replicas' logs about handshakes that the API server refused, or that could not be made.
func (f *Fleet) Refused() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, p := range f.logs {
		for line := range strings.Lines(p.Log()) {
			if strings.Contains(line, "TLS handshake error") && strings.Contains(line, "tls:") {
				lines = append(lines, p.Name+": "+strings.TrimSpace(line))
			}
		}
	}
	return lines
}

// Forbidden are the lines of the replicas' logs that say that the manifests' rights do not suffice.
func (f *Fleet) Forbidden() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, p := range f.logs {
		for line := range strings.Lines(p.Log()) {
			if strings.Contains(line, "forbidden") {
				lines = append(lines, p.Name+": "+strings.TrimSpace(line))
			}
		}
	}
	return lines
}
