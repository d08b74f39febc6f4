// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

// drainStep is how often a replica that ends looks whether its last requests were answered.
const drainStep = 50 * time.Millisecond

// errDraining is what the readiness probe hears of a replica that was told to end.
var errDraining = errors.New("this replica ends; the others answer")

// drainer lets a replica end without any request noticing. Once it is told to end it is not ready, but goes on answering for a while: the
// nodes and API servers that route to it learn only in time that it is going. Each answer asks the API server to close the connection,
// which would be used again otherwise, up to the moment in which this end closes it. Then it waits for the requests that are held. Only
// after that the manager may stop: without its cache, a held request would learn nothing more.
type drainer struct {
	delay    time.Duration
	clock    clock.Clock
	draining atomic.Bool
	requests atomic.Int64
}

// after is a context that ends once ctx has ended and the replica is drained.
func (d *drainer) after(ctx context.Context) context.Context {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer cancel()
		<-ctx.Done()
		d.drain()
	}()
	return later
}

func (d *drainer) drain() {
	d.draining.Store(true)
	ctrl.Log.Info("Ending; answering until nobody asks any more", "for", d.delay.String(), "requests", d.requests.Load())
	<-d.clock.After(d.delay)
	for limit := d.clock.Now().Add(maxHold); d.requests.Load() > 0 && d.clock.Now().Before(limit); {
		<-d.clock.After(drainStep)
	}
}

// Ready is a readiness check.
func (d *drainer) Ready(*http.Request) error {
	if d.draining.Load() {
		return errDraining
	}
	return nil
}

// wrap makes a handler one that the drainer knows of.
func (d *drainer) wrap(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.requests.Add(1)
		defer d.requests.Add(-1)
		handler.ServeHTTP(&closing{ResponseWriter: w, draining: &d.draining}, r)
	})
}

// closing sets the header by which the client closes the connection: when the answer begins, for a request may have been held until then.
type closing struct {
	http.ResponseWriter
	draining *atomic.Bool
	begun    bool
}

// WriteHeader implements http.ResponseWriter.
func (c *closing) WriteHeader(status int) {
	c.begin()
	c.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (c *closing) Write(p []byte) (int, error) {
	c.begin()
	return c.ResponseWriter.Write(p)
}

func (c *closing) begin() {
	if !c.begun && c.draining.Load() {
		c.Header().Set("Connection", "close")
	}
	c.begun = true
}

// drainedServer is a webhook server whose handlers the drainer knows of.
type drainedServer struct {
	webhook.Server
	drainer *drainer
}

// Register implements webhook.Server.
func (s drainedServer) Register(path string, hook http.Handler) {
	s.Server.Register(path, s.drainer.wrap(hook))
}
