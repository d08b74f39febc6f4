// SPDX-License-Identifier: Apache-2.0

package export

import (
	"math"
	"sync"
	"time"
)

const (
	// weight is how much the latest measurement counts in the average.
	weight = 0.3
	// tooSmall is a push that says more about latency than about bandwidth, in bytes.
	tooSmall = 1 << 20
	// step is how much the average must change before it is published anew.
	step = 0.25
)

// Bandwidth is the moving average of the pushes' bandwidth. The zero value has measured nothing. Its methods may be called
// concurrently.
type Bandwidth struct {
	// Changed is called after the published value changed; nil means nobody is told.
	Changed func()

	mu        sync.Mutex
	average   float64
	published float64
}

// Add counts a push.
func (b *Bandwidth) Add(bytes int64, took time.Duration) {
	if bytes < tooSmall || took <= 0 {
		return
	}
	b.mu.Lock()
	measured := float64(bytes) / took.Seconds()
	if b.average == 0 {
		b.average = measured
	}
	b.average += weight * (measured - b.average)
	changed := math.Abs(b.average-b.published) > step*b.published
	if changed {
		b.published = b.average
	}
	b.mu.Unlock()
	if changed && b.Changed != nil {
		b.Changed()
	}
}

// BytesPerSecond is the average as last published: it follows the measurements in steps, so that not every push changes it. 0
// means that nothing was measured.
func (b *Bandwidth) BytesPerSecond() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(b.published)
}
