// SPDX-License-Identifier: Apache-2.0

// Package fence stops the processes of containers and lets them go on, and remembers on the node which ones it stopped.
package fence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// State is what a container's processes do.
type State int

// The states of a container's processes.
const (
	// Gone: the container has no processes, or the runtime does not know it.
	Gone State = iota
	// Running: the processes run.
	Running
	// Frozen: the processes stand still.
	Frozen
)

// ErrGone means that a container has no processes that could be frozen.
var ErrGone = errors.New("container has no running processes")

// Fence stops containers by their runtime ID. Its methods are idempotent and may be called concurrently.
type Fence interface {
	// State tells what the container's processes do.
	State(ctx context.Context, id string) (State, error)
	// Freeze stops all processes of the container; one that is frozen stays so. It fails with ErrGone where there are none.
	Freeze(ctx context.Context, id string) error
	// Thaw lets the processes go on; one that runs or is gone is no error.
	Thaw(ctx context.Context, id string) error
}

// freezing bounds how long one container may take to stand still.
const freezing = 15 * time.Second

// FreezeAll freezes all containers at once and returns when each one stands still or has failed to. When one fails, the error names it;
// others may be frozen by then. Nothing cuts a freeze short, neither the failure of another one nor the end of ctx: the runtime would
// carry it out all the same, perhaps after the thaw that follows, and nobody would ever thaw it again.
func FreezeAll(ctx context.Context, f Fence, containers []Container) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), freezing)
	defer cancel()
	var group errgroup.Group
	for _, c := range containers {
		group.Go(func() error {
			if err := f.Freeze(ctx, c.ID); err != nil {
				return fmt.Errorf("freezing container %q: %w", c.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// ThawAll lets all containers go on. It tries each one, whatever happens to the others.
func ThawAll(ctx context.Context, f Fence, containers []Container) error {
	var errs []error
	for _, c := range containers {
		if err := f.Thaw(ctx, c.ID); err != nil {
			errs = append(errs, fmt.Errorf("thawing container %q: %w", c.Name, err))
		}
	}
	return errors.Join(errs...)
}

// AllFrozen reports whether every container still stands still.
func AllFrozen(ctx context.Context, f Fence, containers []Container) (bool, error) {
	for _, c := range containers {
		state, err := f.State(ctx, c.ID)
		if err != nil {
			return false, fmt.Errorf("reading the state of container %q: %w", c.Name, err)
		}
		if state != Frozen {
			return false, nil
		}
	}
	return true, nil
}

// AllGone reports whether none of the containers has processes left.
func AllGone(ctx context.Context, f Fence, containers []Container) (bool, error) {
	for _, c := range containers {
		state, err := f.State(ctx, c.ID)
		if err != nil {
			return false, fmt.Errorf("reading the state of container %q: %w", c.Name, err)
		}
		if state != Gone {
			return false, nil
		}
	}
	return true, nil
}
