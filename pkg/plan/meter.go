// SPDX-License-Identifier: Apache-2.0

package plan

import "time"

// alpha is how much the latest measurement counts in a Meter's average.
const alpha = 0.3

// Meter measures the rate of a stage that all jobs in it share equally. While n of them are in it, each gets the n-th part: what one job
// took is therefore counted in shares, so that a job among others says as much about the whole stage as one that was alone. The zero
// value has measured nothing.
type Meter struct {
	// Fixed is what each job takes in the stage whatever its size: it says nothing about the rate.
	Fixed time.Duration

	last    time.Time
	present int
	// shares is the integral of 1/present over time, in seconds.
	shares  float64
	average float64
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
	rate := float64(bytes) / max(took-m.Fixed.Seconds(), took/4)
	if m.average == 0 {
		m.average = rate
	}
	m.average += alpha * (rate - m.average)
}

// Rate is the average in bytes a second; 0 when nothing was measured.
func (m *Meter) Rate() float64 { return m.average }

// Left is how many bytes of a stage are left of a job that has had so much of it (Shares). Of one that should be over, a tenth of the time
// that it has taken so far is still to come: that it is not says that there is more than was thought, or that the rate is lower.
func Left(bytes int64, rate float64, shares time.Duration) int64 {
	had := int64(rate * max(shares.Seconds(), 0))
	return max(bytes-had, had/9)
}
