// SPDX-License-Identifier: Apache-2.0

package load_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cryopod/cryopod/test/bench/webhook/load"
)

func TestQuantile(t *testing.T) {
	var hundred []time.Duration
	for n := range 100 {
		hundred = append(hundred, time.Duration(100-n)*time.Millisecond)
	}
	tests := map[string]struct {
		of   []time.Duration
		q    float64
		want time.Duration
	}{
		"none":            {q: 0.99},
		"one":             {of: []time.Duration{7}, q: 0.99, want: 7},
		"median":          {of: hundred, q: 0.5, want: 50 * time.Millisecond},
		"99 of 100":       {of: hundred, q: 0.99, want: 99 * time.Millisecond},
		"all":             {of: hundred, q: 1, want: 100 * time.Millisecond},
		"none of hundred": {of: hundred, q: 0, want: time.Millisecond},
		"between two":     {of: hundred[:3], q: 0.5, want: 99 * time.Millisecond},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := load.Quantile(tc.of, tc.q); got != tc.want {
				t.Errorf("quantile %g = %s, want %s", tc.q, got, tc.want)
			}
		})
	}
}

// TestRunCountsWhatHadToWait has one call keep all others waiting, as a server that stands still does. A generator that waits for answers
// before it calls again would see one slow call.
func TestRunCountsWhatHadToWait(t *testing.T) {
	const calls, rate, stall = 200, 1000, 150 * time.Millisecond
	var one sync.Mutex
	r, err := load.Run(t.Context(), load.Plan{Rate: rate, Calls: calls, Call: func(_ context.Context, n int) error {
		one.Lock()
		defer one.Unlock()
		if n == 0 {
			time.Sleep(stall)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	waited := 0
	for _, took := range r.Took {
		if took >= stall/3 {
			waited++
		}
	}
	// Those due within the first two thirds of the stall.
	if waited < 90 {
		t.Errorf("%d calls took a third of the stall or more, want 90 at least", waited)
	}
	if p50 := load.Quantile(r.Took, 0.5); p50 < stall/6 {
		t.Errorf("the median is %s, although half of the calls had to wait", p50)
	}
}

func TestRunKeepsTheRate(t *testing.T) {
	const calls, rate = 100, 500
	// An answer that takes ten times the gap must not slow the calls down.
	r, err := load.Run(t.Context(), load.Plan{Rate: rate, Calls: calls, Call: func(context.Context, int) error {
		time.Sleep(20 * time.Millisecond)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if least := (calls - 1) * time.Second / rate; r.Lasted < least {
		t.Errorf("%d calls took %s, want %s or more", calls, r.Lasted, least)
	}
	// One after the other they would take 2 s.
	if r.Lasted > time.Second {
		t.Errorf("%d calls took %s: they waited for one another", calls, r.Lasted)
	}
}

func TestRunGivesErrors(t *testing.T) {
	wrong := errors.New("wrong")
	r, err := load.Run(t.Context(), load.Plan{Rate: 1e6, Calls: 10, Call: func(_ context.Context, n int) error {
		if n%2 == 0 {
			return wrong
		}
		return nil
	}})
	if err != nil || len(r.Errors) != 5 || !errors.Is(r.Errors[0], wrong) {
		t.Errorf("error %v, errors of calls %v, want five", err, r.Errors)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := load.Run(ctx, load.Plan{Rate: 1, Calls: 10, Call: func(context.Context, int) error { return nil }}); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want that of the context", err)
	}
}
