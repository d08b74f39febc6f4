// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"time"
)

// memory is after how many bytes a measurement counts for half, unless a Meter has a memory of its own.
const memory = 1 << 30

// Meter measures the rate of a stage that all jobs in it share equally. While n of them are in it, each gets the n-th part: what one job
// took is therefore counted in shares, so that a job among others says as much about the whole stage as one that was alone. What a job
// says counts by its size, for of small ones most of the time is not spent on their bytes. The zero value has measured nothing.
type Meter struct {
	// Fixed is what each job takes in the stage whatever its size: it says nothing about the rate.
	Fixed time.Duration
	// Memory is after how many bytes a measurement counts for half; 0 means 1 GiB.
	Memory int64

	last    time.Time
	present int
	// shares is the integral of 1/present over time, in seconds.
	shares float64
	// bytes took so many seconds; both fade.
	bytes, took float64
}

// Expect tells what the rate is likely to be before anything is measured: it counts like a job of that many bytes.
func (m *Meter) Expect(rate float64, bytes int64) {
	m.bytes, m.took = float64(bytes), float64(bytes)/rate
}

// Lap is a job's stay in a stage.
type Lap struct{ shares float64 }

func (m *Meter) tick(now time.Time) {
	if d := now.Sub(m.last).Seconds(); m.present > 0 && d > 0 {
		m.shares += d / float64(m.present)
	}
	m.last = now
}

// Enter counts a job that enters the stage.
func (m *Meter) Enter(now time.Time) Lap {
	m.tick(now)
	m.present++
	return Lap{m.shares}
}

// Shares is for how long the job would have been in the stage so far, had it been alone.
func (m *Meter) Shares(l Lap, now time.Time) time.Duration {
	m.tick(now)
	return seconds(m.shares - l.shares)
}

// Leave counts a job that leaves the stage, and measures the rate if it was done with that many bytes; with 0 bytes it measures nothing.
func (m *Meter) Leave(l Lap, now time.Time, bytes int64) {
	took := m.Shares(l, now).Seconds()
	m.present = max(m.present-1, 0)
	if bytes <= 0 || took <= 0 {
		return
	}
	half := float64(cmp.Or(m.Memory, memory))
	fades := half / (half + float64(bytes))
	m.bytes = m.bytes*fades + float64(bytes)
	m.took = m.took*fades + max(took-m.Fixed.Seconds(), took/4)
}

// Rate is the average in bytes a second; 0 when nothing was measured or expected.
func (m *Meter) Rate() float64 {
	if m.took <= 0 {
		return 0
	}
	return m.bytes / m.took
}

// Left is how many bytes of a stage are left of a job that has had so much of it (Shares). Of one that should be over, a fiftieth of the time
// that it has taken so far is still to come: that it is not says that there is more than was thought, or that the rate is lower.
func Left(bytes int64, rate float64, shares time.Duration) int64 {
	had := int64(rate * max(shares.Seconds(), 0))
	return max(bytes-had, had/50)
}
