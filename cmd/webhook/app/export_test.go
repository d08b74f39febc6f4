// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"net/http"
	"time"

	"k8s.io/utils/clock"
)

// Drainer is what the tests see of a drainer.
type Drainer struct{ d *drainer }

// NewDrainer makes one.
func NewDrainer(delay time.Duration, c clock.Clock) Drainer {
	return Drainer{&drainer{delay: delay, clock: c}}
}

// After is a context that ends once ctx has ended and the replica is drained.
func (d Drainer) After(ctx context.Context) context.Context { return d.d.after(ctx) }

// Ready is the readiness check.
func (d Drainer) Ready() error { return d.d.Ready(nil) }

// Wrap makes a handler one that the drainer knows of.
func (d Drainer) Wrap(h http.Handler) http.Handler { return d.d.wrap(h) }

// StripPod is the transform of the pods in the cache.
var StripPod = stripPod
