// SPDX-License-Identifier: Apache-2.0

package crowd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cryopod/cryopod/test/bench/webhook/program"
)

const (
	// slack is how much later than its bound an answer may come on a machine that does much else. The API server itself gives up, and lets the
	// pod go, 10 s after the bound of 20 s.
	slack = 8 * time.Second
	// calm is how long the program may take to be as it was before.
	calm = 2 * time.Minute
)

// Trial is what evicting the whole crowd twice came to: first nobody is saved in time, then everybody is.
type Trial struct {
	// PutOff and Saved are the answers of the first and of the second time.
	PutOff, Saved []Answer
	// Before is taken at rest, Highest has the highest of each number meanwhile, After is at rest again.
	Before, Highest, After program.Cost
	// HeldAtOnce is the highest number of requests that were held.
	HeldAtOnce int
	// Woken is how long after Ready was written each eviction was answered.
	Woken []time.Duration
	// Calls is how many requests the program has made to the API server for it all.
	Calls float64
	// Wrong is each thing that was not as it has to be.
	Wrong []string
}

// Try evicts the crowd twice. The program, whose only requests these are, has to hold an eviction for hold and as many as there are pods at a time.
func (k *Crowd) Try(ctx context.Context, p *program.Program, hold time.Duration) (*Trial, error) {
	t := &Trial{}
	calls, err := k.rest(ctx, p, t)
	if err != nil {
		return nil, err
	}
	agents, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- k.Agents(agents) }()
	sampled := sampleUntil(agents, p)
	err = errors.Join(k.putOff(ctx, t, hold), k.save(ctx, p, t, hold))
	stop()
	err = errors.Join(err, <-ended, t.highest(<-sampled))
	if err != nil {
		return nil, err
	}
	m, err := p.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	t.Calls = m.Sum("rest_client_requests_total") - calls
	t.After, err = k.settle(ctx, p, t)
	return t, err
}

// rest notes what the program costs before.
func (k *Crowd) rest(ctx context.Context, p *program.Program, t *Trial) (calls float64, err error) {
	if t.Before, err = p.Cost(ctx); err != nil {
		return 0, err
	}
	m, err := p.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	return m.Sum("rest_client_requests_total"), nil
}

// putOff evicts all while nobody is saved.
func (k *Crowd) putOff(ctx context.Context, t *Trial, hold time.Duration) error {
	t.PutOff = k.Evict(ctx)
	for _, a := range t.PutOff {
		switch {
		case !a.PutOff():
			t.wrong("the eviction of pod %q, which is not saved, was answered with %v, want 429", a.Pod, a.Err)
		case a.Took < hold-time.Second:
			t.wrong("the eviction of pod %q was put off after %s already, want %s", a.Pod, a.Took, hold)
		case a.Took > hold+slack:
			t.wrong("the eviction of pod %q was held for %s, its bound is %s", a.Pod, a.Took, hold)
		}
	}
	phases, err := k.Phases(ctx)
	if err != nil {
		return err
	}
	if phases["Exporting"] != len(k.pods) {
		t.wrong("the checkpoints are %v, want all of %d Exporting", phases, len(k.pods))
	}
	return nil
}

// save evicts all again, and has all saved once all are held.
func (k *Crowd) save(ctx context.Context, p *program.Program, t *Trial, hold time.Duration) error {
	answers := make(chan []Answer, 1)
	go func() { answers <- k.Evict(ctx) }()
	held := within(ctx, hold, "all evictions are held", func() (bool, error) {
		c, err := p.Cost(ctx)
		return int(c.Held) == len(k.pods), err
	})
	if held != nil {
		t.wrong("%v", held)
	}
	written, err := k.Finish(ctx)
	t.Saved = <-answers
	if err != nil {
		return err
	}
	for _, a := range t.Saved {
		if a.Err != nil {
			t.wrong("the eviction of pod %q, which is saved, was answered with %v", a.Pod, a.Err)
			continue
		}
		t.Woken = append(t.Woken, max(0, a.At.Sub(written[a.Pod])))
	}
	staying, err := k.Gone(ctx)
	if len(staying) > 0 {
		t.wrong("%d saved pods do not go with a grace period of 1 s, %q among them", len(staying), staying[0])
	}
	return err
}

// settle waits until nothing is held and no more goroutines run than before, but for those of a few connections.
func (k *Crowd) settle(ctx context.Context, p *program.Program, t *Trial) (after program.Cost, err error) {
	const few = 20
	waited := within(ctx, calm, "the program is as it was", func() (bool, error) {
		after, err = p.Cost(ctx)
		return after.Held == 0 && after.Goroutines <= t.Before.Goroutines+few, err
	})
	if waited != nil && err == nil {
		t.wrong("%v: %g goroutines, %g before; %g requests are held", waited, after.Goroutines, t.Before.Goroutines, after.Held)
	}
	return after, err
}

func (t *Trial) wrong(format string, args ...any) {
	t.Wrong = append(t.Wrong, fmt.Sprintf(format, args...))
}

type samples struct {
	costs []program.Cost
	err   error
}

// sampleUntil looks at the program several times a second until the context ends.
func sampleUntil(ctx context.Context, p *program.Program) <-chan samples {
	out := make(chan samples, 1)
	go func() {
		var s samples
		for ctx.Err() == nil && s.err == nil {
			c, err := p.Cost(ctx)
			if err == nil {
				s.costs = append(s.costs, c)
			} else if ctx.Err() == nil {
				s.err = err
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
		out <- s
	}()
	return out
}

func (t *Trial) highest(s samples) error {
	for _, c := range s.costs {
		t.Highest.Resident = max(t.Highest.Resident, c.Resident)
		t.Highest.PeakResident = max(t.Highest.PeakResident, c.PeakResident)
		t.Highest.Heap = max(t.Highest.Heap, c.Heap)
		t.Highest.Goroutines = max(t.Highest.Goroutines, c.Goroutines)
		t.Highest.Held = max(t.Highest.Held, c.Held)
	}
	t.HeldAtOnce = int(t.Highest.Held)
	return s.err
}
