// SPDX-License-Identifier: Apache-2.0

// Package load calls something at a constant rate, however long it takes to answer, and keeps how long each call took. The time counts from
// when the call was due, not from when it was made: what stands still for a second has kept all calls of that second waiting, and what
// the generator itself is late by counts too.
package load

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Plan is a load.
type Plan struct {
	// Rate is how many calls begin each second.
	Rate float64
	// Calls is how many are made in all.
	Calls int
	// Call makes the call of that number, from 0, and gives what is wrong with its answer. It is called from many goroutines at once.
	Call func(ctx context.Context, n int) error
}

// Result is what came of a load.
type Result struct {
	// Took has how long each call took from when it was due, by number.
	Took []time.Duration
	// Late has how much later than due each call was made, by number. It is part of Took.
	Late []time.Duration
	// Errors are those of the calls that failed; they are among Took too.
	Errors []error
	// Lasted is the time from the first call to the last answer.
	Lasted time.Duration
}

// Run makes the calls and waits for all answers. When the context ends, no more are made, and the error is its.
func Run(ctx context.Context, p Plan) (Result, error) {
	r := Result{Took: make([]time.Duration, p.Calls), Late: make([]time.Duration, p.Calls)}
	var (
		calls sync.WaitGroup
		mu    sync.Mutex
	)
	// A thread that sleeps wakes up to a millisecond earlier than a goroutine does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	gap := float64(time.Second) / p.Rate
	began := time.Now()
	for n := range p.Calls {
		due := began.Add(time.Duration(float64(n) * gap))
		if err := sleep(ctx, due); err != nil {
			calls.Wait()
			return Result{}, fmt.Errorf("after %d of %d calls: %w", n, p.Calls, err)
		}
		calls.Go(func() {
			r.Late[n] = time.Since(due)
			err := p.Call(ctx, n)
			r.Took[n] = time.Since(due)
			if err != nil {
				mu.Lock()
				r.Errors = append(r.Errors, err)
				mu.Unlock()
			}
		})
	}
	calls.Wait()
	r.Lasted = time.Since(began)
	return r, nil
}

func sleep(ctx context.Context, until time.Time) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		left := min(time.Until(until), 100*time.Millisecond)
		if left <= 0 {
			return nil
		}
		span := unix.NsecToTimespec(left.Nanoseconds())
		// Woken early by a signal, it sleeps again.
		_ = unix.Nanosleep(&span, nil)
	}
}

// Quantile is the smallest of the durations that a share q of all is not longer than; 0 of none.
func Quantile(took []time.Duration, q float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	return sorted[max(0, min(len(sorted)-1, rank(len(sorted), q)-1))]
}

// rank is the place of the quantile among n, from 1: the nearest rank, never interpolated.
func rank(n int, q float64) int {
	at := q * float64(n)
	place := int(at)
	if float64(place) < at-1e-9 {
		place++
	}
	return place
}
