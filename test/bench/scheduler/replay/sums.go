// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"math"
	"slices"
	"time"
)

// sums are what is counted of a day, without its warm-up.
type sums struct {
	images      int64 // bytes pulled of base images
	restoring   int64 // of those for pods that were restored
	checkpoints int64 // bytes pulled of checkpoints
	fresh       []float64
	restored    []float64
	pods        int // placed
	restores    int
	pending     int // seen waiting for a node, summed over the samples
	deviations  []float64
	maxima      []float64
	crowded     []float64
}

func (s *sums) placed(p *pod, images, checkpoints int64) {
	s.images += images
	s.checkpoints += checkpoints
	s.pods++
	if p.restores {
		s.restores++
		s.restoring += images
	}
}

func (s *sums) ran(p *pod, took time.Duration) {
	if p.restores {
		s.restored = append(s.restored, took.Seconds())
		return
	}
	s.fresh = append(s.fresh, took.Seconds())
}

// sample looks at how even the load is: the share of each node's CPU that is requested, and the share of an owner's pods that are on one node.
func (d *day) sample() {
	var shares []float64
	for _, n := range d.there() {
		if !n.leaving {
			shares = append(shares, float64(n.requested)/float64(n.shape.cpu))
		}
	}
	d.sums.deviations = append(d.sums.deviations, deviation(shares))
	d.sums.maxima = append(d.sums.maxima, slices.Max(shares))
	d.sums.pending += len(d.pending)
	var crowds []float64
	for _, a := range d.apps {
		if len(a.pods) < 4 {
			continue
		}
		on := map[*node]int{}
		most := 0
		for _, p := range a.pods {
			on[p.node]++
			most = max(most, on[p.node])
		}
		crowds = append(crowds, float64(most)/float64(len(a.pods)))
	}
	if len(crowds) > 0 {
		d.sums.crowded = append(d.sums.crowded, mean(crowds))
	}
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

func deviation(values []float64) float64 {
	middle := mean(values)
	var sum float64
	for _, v := range values {
		sum += (v - middle) * (v - middle)
	}
	return math.Sqrt(sum / float64(len(values)))
}

// p95 is the value that 95 of a hundred are at most.
func p95(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, len(sorted)*95/100)]
}
