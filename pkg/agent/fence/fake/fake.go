// SPDX-License-Identifier: Apache-2.0

// Package fake is a fence.Fence over containers that exist only in memory.
package fake

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/cryopod/cryopod/pkg/agent/fence"
)

// Fence keeps the state of containers in memory. The zero value has none.
type Fence struct {
	mu     sync.Mutex
	states map[string]fence.State
	thawed []string
	// FailFreeze is returned by Freeze for the container of that ID.
	FailFreeze map[string]error
}

var _ fence.Fence = (*Fence)(nil)

// Set puts a container into a state.
func (f *Fence) Set(id string, s fence.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.states == nil {
		f.states = map[string]fence.State{}
	}
	f.states[id] = s
}

// Get returns a container's state.
func (f *Fence) Get(id string) fence.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.states[id]
}

// Thawed returns the IDs of the containers that went from frozen to running, in order.
func (f *Fence) Thawed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.thawed)
}

// State implements fence.Fence.
func (f *Fence) State(_ context.Context, id string) (fence.State, error) { return f.Get(id), nil }

// Freeze implements fence.Fence.
func (f *Fence) Freeze(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.FailFreeze[id]; err != nil {
		return err
	}
	if f.states[id] == fence.Gone {
		return fmt.Errorf("freezing %q: %w", id, fence.ErrGone)
	}
	f.states[id] = fence.Frozen
	return nil
}

// Thaw implements fence.Fence.
func (f *Fence) Thaw(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.states[id] == fence.Frozen {
		f.states[id] = fence.Running
		f.thawed = append(f.thawed, id)
	}
	return nil
}
