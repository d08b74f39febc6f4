// SPDX-License-Identifier: Apache-2.0

// Package service stands for the Service before the webhook's replicas: as kube-proxy does, it gives each new connection to one of the
// endpoints by chance, does not try another one when that fails, and leaves connections alone that there are. It counts what failed, and at
// whose end.
package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Cause says what had become of a replica when a request to it failed.
type Cause string

// The causes.
const (
	// Killed: it was killed, and perhaps starts again.
	Killed Cause = "killed"
	// Terminated: it was told to end.
	Terminated Cause = "terminated"
	// Alive: nothing was done to it.
	Alive Cause = "alive"
	// Nobody: there was no endpoint.
	Nobody Cause = "nobody"
)

// Endpoint is a replica as the Service sees it.
type Endpoint struct {
	// Address is host:port.
	Address string

	cause atomic.Pointer[Cause]
}

// Is tells what is being done to the replica.
func (e *Endpoint) Is(c Cause) { e.cause.Store(&c) }

func (e *Endpoint) state() Cause {
	if c := e.cause.Load(); c != nil {
		return *c
	}
	return Alive
}

// Service is a port with endpoints behind it.
type Service struct {
	listener net.Listener
	dialer   net.Dialer

	mu        sync.Mutex
	endpoints []*Endpoint
	failures  map[Cause]int
	links     map[net.Conn]struct{}
	serving   sync.WaitGroup
}

// New opens the port on loopback, without endpoints. The caller has to call Close.
func New(ctx context.Context) (*Service, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("opening the Service's port: %w", err)
	}
	s := &Service{listener: listener, failures: map[Cause]int{}, links: map[net.Conn]struct{}{}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.serving.Go(func() { s.serve(ctx, conn.(*net.TCPConn)) })
		}
	}()
	return s, nil
}

// Close closes the port and all connections.
func (s *Service) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.links {
		_ = c.Close()
	}
	return err
}

// Wait waits until every connection has ended: only then all failures are counted. Close has to be called before.
func (s *Service) Wait() { s.serving.Wait() }

// Port is the Service's.
func (s *Service) Port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// Add adds an endpoint, unless it is there.
func (s *Service) Add(e *Endpoint) {
	s.Remove(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints = append(s.endpoints, e)
}

// Remove removes an endpoint. Its connections stay.
func (s *Service) Remove(e *Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.endpoints[:0:0]
	for _, other := range s.endpoints {
		if other != e {
			kept = append(kept, other)
		}
	}
	s.endpoints = kept
}

// Failures counts the connections on which a request failed.
func (s *Service) Failures() map[Cause]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[Cause]int{}
	for cause, n := range s.failures {
		all[cause] = n
	}
	return all
}

func (s *Service) fail(c Cause) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures[c]++
}

func (s *Service) pick() *Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.endpoints) == 0 {
		return nil
	}
	return s.endpoints[rand.IntN(len(s.endpoints))]
}

func (s *Service) track(c net.Conn) (untrack func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links[c] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.links, c)
		_ = c.Close()
	}
}

func (s *Service) serve(ctx context.Context, from *net.TCPConn) {
	defer s.track(from)()
	e := s.pick()
	if e == nil {
		s.fail(Nobody)
		refuse(from)
		return
	}
	before := e.state()
	conn, err := s.dialer.DialContext(ctx, "tcp", e.Address)
	if err != nil {
		s.fail(e.state())
		refuse(from)
		return
	}
	defer s.track(conn)()
	cause, failed := relay(from, conn.(*net.TCPConn), e)
	switch {
	case before == Killed: // it starts again, and takes connections before it can answer
		s.fail(Killed)
	case failed:
		s.fail(cause)
	}
}

// refuse ends a connection as the kernel does where nobody listens.
func refuse(c *net.TCPConn) { _ = c.SetLinger(0) }

// asking is the size from which on what a client sends is a request or the beginning of a handshake, and not the end of either: an
// AdmissionReview has a kilobyte and more, a closing notice 24 bytes.
const asking = 160

// linger is how long a client is listened to whose replica closed the connection.
const linger = 500 * time.Millisecond

// relay carries bytes both ways until one side ends, and tells whether the replica ended it while something was asked of it, and why.
func relay(from, to *net.TCPConn, e *Endpoint) (cause Cause, failed bool) {
	var unanswered, late atomic.Bool
	var ended atomic.Bool // by the replica
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				if n >= asking {
					unanswered.Store(true)
					late.Store(ended.Load())
				}
				_, _ = to.Write(buf[:n])
			}
			if err != nil {
				if !ended.Load() {
					_ = to.Close()
				}
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := to.Read(buf)
		if n > 0 {
			unanswered.Store(false)
			_, _ = from.Write(buf[:n])
		}
		if err == nil {
			continue
		}
		if errors.Is(err, net.ErrClosed) { // the client ended
			<-asked
			return "", false
		}
		cause, failed := e.state(), unanswered.Load()
		ended.Store(true)
		_ = from.CloseWrite()
		_ = from.SetReadDeadline(time.Now().Add(linger))
		<-asked
		return cause, failed || late.Load()
	}
}
