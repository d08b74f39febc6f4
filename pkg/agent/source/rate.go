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
	// stale is when a measurement is too old to keep a pod from being saved: the node may have been busy then.
	stale = 10 * time.Minute
	// telling is the least memory of a pod whose times say something about rates.
	telling = 8 << 20
)

// rates measures dumps and pushes by the archives' size; where that can't be seen, by the memory that was in use.
type rates struct {
	dump, push meter
}

type meter struct {
	planner.Meter
	measured time.Time
}

func (m *meter) rate(now time.Time) (rate float64, measured bool) {
	if m.measured.IsZero() {
		m.Expect(defaultRate, expected)
		return defaultRate, false
	}
	if rate = m.Rate(); now.Sub(m.measured) > stale {
		return max(rate, defaultRate), false
	}
	return rate, true
}

func (m *meter) leave(lap planner.Lap, now time.Time, bytes int64) {
	if bytes >= telling {
		m.measured = now
	} else {
		bytes = 0
	}
	m.Leave(lap, now, bytes)
}

// now are the rates as they are known at a time.
func (r *rates) now(now time.Time) planner.Rates {
	r.dump.Fixed, r.push.Fixed = dumpLatency, pushLatency
	dump, measured1 := r.dump.rate(now)
	push, measured2 := r.push.rate(now)
	known := planner.Rates{Dump: dump, Push: push, Latency: dumpLatency + pushLatency, Safety: safety}
	if !measured1 && !measured2 {
		known.Safety = 1 // It is but a guess; no pod is given up for its uncertainty.
	}
	return known
}

// left is how much of its stage an attempt has before it.
func (r *rates) left(run *running, known planner.Rates, now time.Time) int64 {
	switch run.job.Stage {
	case planner.Dumping:
		return planner.Left(run.job.Bytes, known.Dump, r.dump.Shares(run.lap, now)-dumpLatency)
	case planner.Pushing:
		return planner.Left(run.job.Bytes, known.Push, r.push.Shares(run.lap, now)-pushLatency)
	default:
		return run.job.Bytes
	}
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
