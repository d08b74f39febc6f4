// SPDX-License-Identifier: Apache-2.0

package crowd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/bench/webhook/program"
)

const (
	// bound is how long an eviction may take. After 30 s the API server itself gives up on the webhook, and lets the pod go.
	bound = 28 * time.Second
	// calm is how long the program may take to do what it is waited for.
	calm = 2 * time.Minute
	// idle is how many goroutines the connections cost that the API server keeps open for a while after all is over: 25, and some slack.
	idle = 70
)

// Trial is what evicting the whole crowd came to.
type Trial struct {
	// PutOff, Crowded and Saved are the answers while nobody was saved, while all seats were taken, and once all were saved.
	PutOff, Crowded, Saved []Answer
	// Before is taken at rest, Highest has the highest of each number meanwhile, After is at rest again.
	Before, Highest, After program.Cost
	// Woken is how long after Ready was written each eviction was answered.
	Woken []time.Duration
	// Calls is how many requests the program has made to the API server for it all.
	Calls float64
	// Wrong is each thing that was not as it has to be.
	Wrong []string
}

// Try evicts the crowd once without saving anybody, which takes as long as the program holds an eviction, unless that is 0; and then until all
// are saved, which happens when all are held. Meanwhile all are evicted once more. These have to be the only requests of the program, and it
// has to hold as many of them as there are pods, and no more.
func (k *Crowd) Try(ctx context.Context, p *program.Program, hold time.Duration) (*Trial, error) {
	t := &Trial{}
	calls, err := t.rest(ctx, p)
	if err != nil {
		return nil, err
	}
	agents, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- k.Agents(agents) }()
	sampled := sampleUntil(agents, p)
	if hold > 0 {
		k.putOff(ctx, t, hold)
	}
	err = k.save(ctx, p, t)
	stop()
	if err = errors.Join(err, <-ended, t.highest(<-sampled)); err != nil {
		return nil, err
	}
	m, err := p.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	t.Calls = m.Sum("rest_client_requests_total") - calls
	return t, t.settle(ctx, p)
}

// rest notes what the program costs before.
func (t *Trial) rest(ctx context.Context, p *program.Program) (calls float64, err error) {
	if err := p.Forget(); err != nil {
		return 0, err
	}
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
func (k *Crowd) putOff(ctx context.Context, t *Trial, hold time.Duration) {
	t.PutOff = k.Evict(ctx)
	for _, a := range t.PutOff {
		switch {
		case !a.PutOff():
			t.wrong("the eviction of pod %q, which is not saved, was answered with %v, want 429", a.Pod, a.Err)
		case a.Took < hold:
			t.wrong("the eviction of pod %q was put off after %s already, want %s", a.Pod, a.Took, hold)
		case a.Took > bound:
			t.wrong("the eviction of pod %q was held for %s, its bound is %s", a.Pod, a.Took, bound)
		}
	}
}

// save evicts all, and has all saved once all are held.
func (k *Crowd) save(ctx context.Context, p *program.Program, t *Trial) error {
	saved := make(chan []Answer, 1)
	go func() { saved <- k.Drain(ctx) }()
	var now program.Cost
	var phases map[v1alpha1.Phase]int
	err := within(ctx, calm, "all evictions are held", func() (ok bool, err error) {
		if now, err = p.Cost(ctx); err != nil {
			return false, err
		}
		phases, err = k.Phases(ctx)
		return int(now.Held) == len(k.pods) && phases[v1alpha1.PhaseExporting] == len(k.pods), err
	})
	if err == nil {
		t.Crowded = k.Evict(ctx)
	} else {
		err = fmt.Errorf("%w: %g are, and the checkpoints are %v", err, now.Held, phases)
	}
	written, failed := k.Finish(ctx)
	t.Saved = <-saved
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	for _, a := range t.Crowded {
		if !a.PutOff() {
			t.wrong("another eviction of pod %q, which was not saved, was answered with %v, want 429", a.Pod, a.Err)
		}
	}
	for _, a := range t.Saved {
		if a.Err != nil || a.Took > bound {
			t.wrong("the eviction of pod %q, which is saved, was answered with %v after %s", a.Pod, a.Err, a.Took)
		}
		t.Woken = append(t.Woken, max(0, a.At.Sub(written[a.Pod])))
	}
	staying, err := k.Gone(ctx)
	if len(staying) > 0 {
		t.wrong("%d saved pods do not go with a grace period of 1 s, %q among them", len(staying), staying[0])
	}
	return err
}

// settle waits until nothing is held and no more goroutines run than before, but for those of idle connections.
func (t *Trial) settle(ctx context.Context, p *program.Program) error {
	var failed error
	waited := within(ctx, calm, "the program is as it was", func() (bool, error) {
		t.After, failed = p.Cost(ctx)
		return t.After.Held == 0 && t.After.Goroutines <= t.Before.Goroutines+idle, failed
	})
	if waited != nil && failed == nil {
		t.wrong("%v: %g goroutines, %g before; %g requests are held", waited, t.After.Goroutines, t.Before.Goroutines, t.After.Held)
	}
	return failed
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
	return s.err
}
