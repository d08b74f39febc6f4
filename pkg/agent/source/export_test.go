// SPDX-License-Identifier: Apache-2.0

package source

import "time"

// Requested is requested.
var Requested = requested

// Causes is how many failures are remembered.
func (r *Reconciler) Causes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.causes)
}

// Waiting is how many checkpoints wait for their turn.
func (r *Reconciler) Waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.turns.waiting)
}

// Reserved is the disk that is set aside.
func (r *Reconciler) Reserved() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reserved()
}

// Fit is fit.
type Fit struct{ fit }

// NewFit makes one that expects this.
func NewFit(fixed time.Duration, rate, expected float64) *Fit {
	return &Fit{fit{fixed: fixed.Seconds(), rate: rate, expected: expected}}
}

// Add is add.
func (f *Fit) Add(bytes int64, shares time.Duration) { f.add(bytes, shares) }

// Line is line.
func (f *Fit) Line() (time.Duration, float64) { return f.line() }
