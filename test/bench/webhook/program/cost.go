// SPDX-License-Identifier: Apache-2.0

package program

import (
	"context"
	"fmt"
	"os"

	"github.com/cryopod/cryopod/test/bench/rig"
)

// Cost is what the program takes at a moment.
type Cost struct {
	// Resident, of which PeakResident is the highest since Forget, and Heap are bytes: the process's in memory, and the heap's that are in use.
	Resident, PeakResident, Heap float64
	// Goroutines is their number.
	Goroutines float64
	// Held is how many requests are held.
	Held float64
}

// Cost reads it from the program's metrics and from /proc.
func (p *Program) Cost(ctx context.Context) (Cost, error) {
	m, err := p.Metrics(ctx)
	if err != nil {
		return Cost{}, err
	}
	u, err := rig.ReadUsage(p.PID())
	if err != nil {
		return Cost{}, err
	}
	return Cost{
		Resident: u.Resident, PeakResident: u.Peak, Heap: m.Sum("go_memstats_heap_inuse_bytes"),
		Goroutines: m.Sum("go_goroutines"), Held: m.Sum("cryopod_eviction_held_requests"),
	}, nil
}

// Forget has PeakResident begin anew.
func (p *Program) Forget() error {
	// proc_pid_clear_refs(5): 5 resets the peak.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID()), []byte("5"), 0o200); err != nil {
		return fmt.Errorf("resetting the peak of the webhook's memory: %w", err)
	}
	return nil
}

// Metrics reads what the program counts.
func (p *Program) Metrics(ctx context.Context) (rig.Metrics, error) {
	return rig.ReadMetrics(ctx, fmt.Sprintf("http://127.0.0.1:%d/metrics", p.metrics))
}
