// SPDX-License-Identifier: Apache-2.0

package export

import (
	"math"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/plan"
)

const (
	// tooSmall says more about latency than about bandwidth, in bytes.
	tooSmall = 1 << 20
	// step is how much the average must change before it is published anew.
	step = 0.2
)

// Bandwidth is the moving average of how many bytes a second all pushes, dumps or pulls of the node have together. Its methods may be
// called concurrently.
type Bandwidth struct {
	// Changed is called after the published value changed; nil means nobody is told.
	Changed func()
	// Memory is after how many bytes a measurement counts for half; 0 means 1 GiB.
	Memory int64
	// Clock is the time; nil means the machine's.
	Clock clock.PassiveClock

	mu        sync.Mutex
	meter     plan.Meter
	published float64
	// elsewhere is the time that all that was measured elsewhere took, as a moment.
	elsewhere time.Time
}

// Enter counts a push that begins. leave has to be called at its end, with what it pushed, or 0 when it failed.
func (b *Bandwidth) Enter() (leave func(bytes int64)) {
	now := clock.PassiveClock(clock.RealClock{})
	if b.Clock != nil {
		now = b.Clock
	}
	b.mu.Lock()
	b.meter.Memory = b.Memory
	lap := b.meter.Enter(now.Now())
	b.mu.Unlock()
	return func(bytes int64) {
		if bytes < tooSmall {
			bytes = 0
		}
		b.mu.Lock()
		b.meter.Leave(lap, now.Now(), bytes)
		changed := b.publish()
		b.mu.Unlock()
		if changed && b.Changed != nil {
			b.Changed()
		}
	}
}

// Measured counts what was measured elsewhere: so many bytes of all jobs together in that time. A Bandwidth that is told so is not to be entered.
func (b *Bandwidth) Measured(bytes int64, took time.Duration) {
	b.mu.Lock()
	b.meter.Memory = b.Memory
	lap := b.meter.Enter(b.elsewhere)
	b.elsewhere = b.elsewhere.Add(took)
	b.meter.Leave(lap, b.elsewhere, bytes)
	changed := b.publish()
	b.mu.Unlock()
	if changed && b.Changed != nil {
		b.Changed()
	}
}

// publish takes the average over when it has changed by a step.
func (b *Bandwidth) publish() bool {
	average := b.meter.Rate()
	changed := math.Abs(average-b.published) > step*b.published
	if changed {
		b.published = average
	}
	return changed
}

// BytesPerSecond is the average as last published: it follows the measurements in steps, so that not every push changes it. 0
// means that nothing was measured.
func (b *Bandwidth) BytesPerSecond() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(b.published)
}
