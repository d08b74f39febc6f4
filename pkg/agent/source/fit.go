// SPDX-License-Identifier: Apache-2.0

package source

import "time"

// fit learns how long a stage takes: a fixed time, and so much for each byte. It is a line through what was measured, by least squares, that
// begins at what is expected: until a large pod says otherwise, what small ones take too long is put down to the fixed time, for they
// say little about the rate.
type fit struct {
	// fixed and rate are what is expected; expected is how much that counts for the rate, like a pod of that many bytes.
	fixed    float64 // seconds
	rate     float64 // bytes a second
	expected float64

	n, b, bb, t, bt float64 // sums over what was measured; older ones fade
}

const (
	// doubt is how much the expected fixed time counts beside one that was measured.
	doubt = 0.25
	// fades is what is left of earlier measurements after another one.
	fades = 0.8
	// fastest is how many times the expected rate is believed at most.
	fastest = 8
)

// add measures a pod that had so much of the stage.
func (f *fit) add(bytes int64, shares time.Duration) {
	b, t := float64(bytes), shares.Seconds()
	f.n, f.b, f.bb, f.t, f.bt = f.n*fades+1, f.b*fades+b, f.bb*fades+b*b, f.t*fades+t, f.bt*fades+b*t
}

// line is the fixed time and the rate.
func (f *fit) line() (fixed time.Duration, rate float64) {
	square := f.expected * f.expected
	a11, a12, a22 := f.n+doubt, f.b, f.bb+square
	r1, r2 := f.t+doubt*f.fixed, f.bt+square/f.rate
	det := a11*a22 - a12*a12
	seconds, slope := (r1*a22-r2*a12)/det, (r2*a11-r1*a12)/det
	if seconds < 0 {
		seconds, slope = 0, r2/a22
	}
	return time.Duration(seconds * float64(time.Second)), 1 / max(slope, 1/(fastest*f.rate))
}
