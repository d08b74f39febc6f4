// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"math"
	"testing"
	"time"

	"github.com/cryopod/cryopod/pkg/agent/source"
)

func TestFit(t *testing.T) {
	type seen struct {
		bytes int64
		took  time.Duration
	}
	second := time.Second
	small, large := seen{32 * mib, second}, seen{2000e6, 21 * second}
	tests := map[string]struct {
		seen  []seen
		fixed time.Duration
		rate  float64
		off   float64 // how far it may be off, as a part
	}{
		"nothing":                  {nil, 250 * time.Millisecond, 400e6, 0.001},
		"small ones only":          {[]seen{small, small, small, small}, 850 * time.Millisecond, 400e6, 0.15},
		"a large one":              {[]seen{large}, 1300 * time.Millisecond, 100e6, 0.1},
		"both":                     {[]seen{small, small, large}, 700 * time.Millisecond, 100e6, 0.1},
		"a faster one":             {[]seen{{4000e6, second}}, 0, 3200e6, 0.5},
		"the node has become slow": {[]seen{{2000e6, 5 * second}, {2000e6, 5 * second}, large, large, large, large, large}, 0, 110e6, 0.2},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := source.NewFit(250*time.Millisecond, 400e6, 256<<20)
			for _, s := range tc.seen {
				f.Add(s.bytes, s.took)
			}
			fixed, rate := f.Line()
			if math.Abs(rate-tc.rate) > tc.off*tc.rate || (fixed-tc.fixed).Abs() > 250*time.Millisecond && tc.fixed > 0 {
				t.Errorf("%s and %.0f MB/s, want %s and %.0f MB/s", fixed, rate/1e6, tc.fixed, tc.rate/1e6)
			}
		})
	}
}
