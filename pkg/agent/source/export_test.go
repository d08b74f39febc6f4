// SPDX-License-Identifier: Apache-2.0

package source

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
