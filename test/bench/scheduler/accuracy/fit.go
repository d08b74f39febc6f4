// SPDX-License-Identifier: Apache-2.0

package accuracy

import (
	"fmt"
	"math"
)

// Restore is one restore, as it was predicted and as it was.
type Restore struct {
	// Mebibytes is the pod's memory, Based whether its base image was on the target, Rate the bound of the line in MiB a second, 0 for none.
	Mebibytes int  `json:"mebibytes"`
	Based     bool `json:"based"`
	Rate      int  `json:"rate"`
	// Predicted is the plugin's word when the node was chosen, in seconds; Told is what it measured itself, until the pod was reported to run.
	Predicted float64 `json:"predicted"`
	Told      float64 `json:"told"`
	// Real is the time from the binding to the first step that the witness got, in seconds.
	Real float64 `json:"real"`
	// Pull and Restored are the bytes that the plugin reckoned with, Measured the node's bandwidth in bytes a second as its profile had it then.
	Pull     int64 `json:"pull"`
	Restored int64 `json:"restored"`
	Measured int64 `json:"measured"`
}

// String is a line for people.
func (r Restore) String() string {
	base := "without base image"
	if r.Based {
		base = "base image there"
	}
	return fmt.Sprintf("%3d MiB, %3d MiB/s, %s: predicted %.2f s, real %.2f s (the scheduler saw %.2f s; %.1f MiB at %.1f MiB/s)",
		r.Mebibytes, r.Rate, base, r.Predicted, r.Real, r.Told, float64(r.Pull)/mebibyte, float64(r.Measured)/mebibyte)
}

// Constants are those of the plugin's model that can't be measured on a node beforehand.
type Constants struct {
	// Unpack and Restore are bytes a second.
	Unpack  float64 `json:"unpackBytesPerSecond"`
	Restore float64 `json:"restoreBytesPerSecond"`
	// Start is seconds.
	Start float64 `json:"startSeconds"`
}

func (c Constants) seconds(r Restore) float64 {
	return r.transfer() + float64(r.Pull)/c.Unpack + float64(r.Restored)/c.Restore + c.Start
}

// unmeasured is the plugin's default for the bandwidth of a node that has measured none.
const unmeasured = 64 * mebibyte

// transfer is the part of the time that none of the constants is in.
func (r Restore) transfer() float64 {
	if r.Measured > 0 {
		return float64(r.Pull) / float64(r.Measured)
	}
	return float64(r.Pull) / unmeasured
}

// String is as args have them.
func (c Constants) String() string {
	return fmt.Sprintf("unpackBytesPerSecond %.0fMi, restoreBytesPerSecond %.0fMi, startTime %.2fs", c.Unpack/mebibyte, c.Restore/mebibyte, c.Start)
}

// fastest is the rate of what takes no time that could be told.
const fastest = 1 << 40

// Fit finds the constants for which the sum of squared errors is smallest; none is negative. False where the restores are too
// few or too much alike to tell.
func Fit(restores []Restore) (Constants, bool) {
	const unknowns = 3
	rows := make([][unknowns]float64, len(restores))
	want := make([]float64, len(restores))
	for i, r := range restores {
		// In MiB: the columns are of the same order then.
		rows[i] = [unknowns]float64{float64(r.Pull) / mebibyte, float64(r.Restored) / mebibyte, 1}
		want[i] = r.Real - r.transfer()
	}
	best, smallest, found := [unknowns]float64{}, math.Inf(1), false
	// The smallest sum without negative ones is that of one of the subsets of the unknowns, where the others are zero.
	for subset := 1; subset < 1<<unknowns; subset++ {
		x, ok := solve(rows, want, subset)
		if !ok || x[0] < 0 || x[1] < 0 || x[2] < 0 {
			continue
		}
		if sum := squares(rows, want, x); sum < smallest {
			best, smallest, found = x, sum, true
		}
	}
	return Constants{Unpack: rate(best[0]), Restore: rate(best[1]), Start: best[2]}, found
}

// rate is the bytes a second of what takes so many seconds a MiB.
func rate(seconds float64) float64 {
	if seconds <= 0 {
		return fastest
	}
	return min(mebibyte/seconds, fastest)
}

// solve is the least squares over the unknowns of the subset, by the normal equations.
func solve(rows [][3]float64, want []float64, subset int) (x [3]float64, ok bool) {
	var chosen []int
	for i := range x {
		if subset&(1<<i) != 0 {
			chosen = append(chosen, i)
		}
	}
	n := len(chosen)
	matrix := make([][]float64, n)
	for a, i := range chosen {
		matrix[a] = make([]float64, n+1)
		for k, row := range rows {
			for b, j := range chosen {
				matrix[a][b] += row[i] * row[j]
			}
			matrix[a][n] += row[i] * want[k]
		}
	}
	if !eliminate(matrix) {
		return x, false
	}
	for a, i := range chosen {
		x[i] = matrix[a][n]
	}
	return x, true
}

// eliminate brings a system of equations, with the right-hand side as the last column, into the form in which that is the solution.
func eliminate(m [][]float64) bool {
	const tooSmall = 1e-9
	for c := range m {
		pivot := c
		for r := c; r < len(m); r++ {
			if math.Abs(m[r][c]) > math.Abs(m[pivot][c]) {
				pivot = r
			}
		}
		if math.Abs(m[pivot][c]) < tooSmall {
			return false
		}
		m[c], m[pivot] = m[pivot], m[c]
		for r := range m {
			if r == c {
				continue
			}
			factor := m[r][c] / m[c][c]
			for k := c; k <= len(m); k++ {
				m[r][k] -= factor * m[c][k]
			}
		}
	}
	for c := range m {
		m[c][len(m)] /= m[c][c]
	}
	return true
}

func squares(rows [][3]float64, want []float64, x [3]float64) (sum float64) {
	for i, row := range rows {
		miss := want[i] - row[0]*x[0] - row[1]*x[1] - row[2]*x[2]
		sum += miss * miss
	}
	return sum
}

// halves are the restores to fit to and those to judge by: of each two that differ in the base image alone one is in each, and they take turns.
func (r Result) halves() (fitted, others []Restore) {
	for i, one := range r.Restores {
		if (i/2+i)%2 == 0 {
			fitted = append(fitted, one)
		} else {
			others = append(others, one)
		}
	}
	return fitted, others
}

// guessing is the error of one who knows the mean only, as a share of it.
func (r Result) guessing() float64 {
	m := mean(reals(r.Restores))
	return mean(misses(r.Restores, func(Restore) float64 { return m })) / m
}

func reals(restores []Restore) []float64 {
	values := make([]float64, len(restores))
	for i, r := range restores {
		values[i] = r.Real
	}
	return values
}

// errorsOf are predicted minus real seconds.
func errorsOf(restores []Restore) []float64 {
	values := make([]float64, len(restores))
	for i, r := range restores {
		values[i] = r.Predicted - r.Real
	}
	return values
}

func misses(restores []Restore, guess func(Restore) float64) []float64 {
	values := make([]float64, len(restores))
	for i, r := range restores {
		values[i] = math.Abs(guess(r) - r.Real)
	}
	return values
}

func mean(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	var sum float64
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
