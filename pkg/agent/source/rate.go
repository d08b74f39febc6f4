// SPDX-License-Identifier: Apache-2.0

package source

import (
	"os"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/metrics"
	planner "github.com/cryopod/cryopod/pkg/plan"
)

const (
	// margin is how long before its deadline a checkpoint has to be durable by the plan: time to cancel it, and for a plan to be half a
	// second old.
	margin = time.Second
	// safety is how much slower than measured the node is taken to be.
	safety = 1.1
	// defaultRate is what dump and push are taken to do until they are measured, in bytes of memory a second: about the best that a node does
	// (docs/migrate.md), so that no pod is given up on a guess.
	defaultRate = 400e6
	// expected is how much that counts beside what is measured, in bytes of memory.
	expected = 256 << 20
	// dumpLatency and pushLatency are what each of them takes besides: freeze, kubelet, CRIU's start; manifest and status.
	dumpLatency = 250 * time.Millisecond
	pushLatency = 100 * time.Millisecond
	// stale is when what was measured is forgotten: the node may have been busy then, and no pod is given up for that.
	stale = 10 * time.Minute
)

// rates measures dumps and pushes by the archives' size; where that can't be seen, by the memory that was in use.
type rates struct {
	dump, push meter
}

type meter struct {
	planner.Meter
	fit      fit
	measured time.Time
}

// know is what is known at a time. Nothing measured, or long ago, is what is expected.
func (m *meter) know(now time.Time, fixed time.Duration) (latency time.Duration, rate float64, measured bool) {
	if m.measured.IsZero() || now.Sub(m.measured) > stale {
		m.fit = fit{fixed: fixed.Seconds(), rate: defaultRate, expected: expected}
		return fixed, defaultRate, false
	}
	latency, rate = m.fit.line()
	return latency, rate, true
}

// leave measures an attempt that was done with the stage; with 0 bytes it was not.
func (m *meter) leave(lap planner.Lap, now time.Time, bytes int64) {
	if shares := m.Shares(lap, now); bytes > 0 && shares > 0 {
		m.measured = now
		m.fit.add(bytes, shares)
	}
	m.Leave(lap, now, 0)
}

// now are the rates as they are known at a time.
func (r *rates) now(now time.Time) planner.Rates {
	dumpLatency, dump, measured1 := r.dump.know(now, dumpLatency)
	pushLatency, push, measured2 := r.push.know(now, pushLatency)
	known := planner.Rates{Dump: dump, Push: push, Latency: dumpLatency + pushLatency, Safety: safety}
	if !measured1 && !measured2 {
		known.Safety = 1 // It is but a guess; no pod is given up for its uncertainty.
	}
	return known
}

// left is how much of its stage an attempt has before it.
func (r *rates) left(run *running, now time.Time) int64 {
	m, fixed := &r.dump, dumpLatency
	if run.job.Stage == planner.Pushing {
		m, fixed = &r.push, pushLatency
	} else if run.job.Stage != planner.Dumping {
		return run.job.Bytes
	}
	latency, rate, _ := m.know(now, fixed)
	return planner.Left(run.job.Bytes, rate, m.Shares(run.lap, now)-latency)
}

// archived is how large the attempt's archives are; 0 before there are any.
func (a *attempt) archived() int64 {
	var sum int64
	for _, path := range a.archives {
		if info, err := os.Lstat(path); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// entered notes that an attempt has entered a phase, with archives of that size, and plans anew.
func (r *Reconciler) entered(key types.NamespacedName, phase v1alpha1.Phase, archived int64) {
	r.mu.Lock()
	now := r.Clock.Now()
	if run := r.running[key]; run != nil {
		switch phase {
		case v1alpha1.PhaseDumping:
			run.job.Stage, run.lap = planner.Dumping, r.turns.rates.dump.Enter(now)
		case v1alpha1.PhaseExporting:
			if archived > 0 {
				run.job.Bytes = archived
			}
			r.turns.rates.dump.leave(run.lap, now, run.job.Bytes)
			run.job.Stage, run.lap = planner.Pushing, r.turns.rates.push.Enter(now)
			// Of the copies only the archive is left.
			run.disk = run.job.Bytes
			metrics.SetReserved(r.reserved())
		}
	}
	wake := r.replan(true)
	r.mu.Unlock()
	r.wakeAll(wake, types.NamespacedName{})
}

// left notes that an attempt has ended. The caller holds the mutex.
func (t *turns) left(run *running, now time.Time, err error) {
	bytes := run.job.Bytes
	if err != nil {
		bytes = 0
	}
	switch run.job.Stage {
	case planner.Dumping:
		t.rates.dump.leave(run.lap, now, 0)
	case planner.Pushing:
		t.rates.push.leave(run.lap, now, bytes)
	}
	t.dirty = true
}
