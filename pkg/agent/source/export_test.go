// SPDX-License-Identifier: Apache-2.0

package source

// Causes is how many failures are remembered.
func (r *Reconciler) Causes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.causes)
}
