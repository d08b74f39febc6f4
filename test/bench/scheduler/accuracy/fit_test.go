// SPDX-License-Identifier: Apache-2.0

package accuracy_test

import (
	"math"
	"testing"

	"github.com/cryopod/cryopod/test/bench/scheduler/accuracy"
)

const mebibyte = 1 << 20

// world makes restores that take exactly what the constants say, and some seconds more.
func world(c accuracy.Constants, more ...float64) []accuracy.Restore {
	var all []accuracy.Restore
	for i, size := range []int64{8, 64, 256, 512} {
		for j, measured := range []int64{16 * mebibyte, 64 * mebibyte, 0} {
			for _, base := range []int64{0, 48} {
				r := accuracy.Restore{Pull: (size/2 + base) * mebibyte, Restored: size * mebibyte, Measured: measured}
				pull := float64(64 * mebibyte)
				if measured > 0 {
					pull = float64(measured)
				}
				r.Real = float64(r.Pull)/pull + float64(r.Pull)/c.Unpack + float64(r.Restored)/c.Restore + c.Start
				if len(more) > 0 {
					r.Real += more[(i+j)%len(more)]
				}
				all = append(all, r)
			}
		}
	}
	return all
}

func TestFit(t *testing.T) {
	truth := accuracy.Constants{Unpack: 100 * mebibyte, Restore: 700 * mebibyte, Start: 1.25}
	cases := map[string]struct {
		restores []accuracy.Restore
		want     accuracy.Constants
		within   float64
		fails    bool
	}{
		"what is exact is found":       {restores: world(truth), want: truth, within: 1e-6},
		"what wavers is found roughly": {restores: world(truth, 0.05, -0.05), want: truth, within: 0.1},
		"what takes no time is never negative": {
			restores: world(accuracy.Constants{Unpack: truth.Unpack, Restore: -10000 * mebibyte, Start: 1}),
			want:     accuracy.Constants{Unpack: truth.Unpack, Restore: 1 << 40, Start: 1}, within: 0.1,
		},
		"none tell nothing": {fails: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, ok := accuracy.Fit(c.restores)
			if ok == c.fails {
				t.Fatalf("Fit found something: %v, want %v", ok, !c.fails)
			}
			if c.fails {
				return
			}
			for what, pair := range map[string][2]float64{
				"unpack": {got.Unpack, c.want.Unpack}, "restore": {got.Restore, c.want.Restore}, "start": {got.Start, c.want.Start},
			} {
				if math.Abs(1/pair[0]-1/pair[1])*pair[1] > c.within && math.Abs(pair[0]-pair[1]) > c.within*pair[1] {
					t.Errorf("%s is %g, want %g within %g", what, pair[0], pair[1], c.within)
				}
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	restores := []accuracy.Restore{
		{Predicted: 2, Real: 1}, {Predicted: 3, Real: 3}, {Predicted: 1, Real: 2}, {Predicted: 2, Real: 2},
	}
	metrics := accuracy.Result{Restores: restores}.Metrics()
	m := metrics["restore_prediction_error"]
	// Off by 1, 0, 1 and 0 of 2 in the mean; who says 2 each time is off by 1, 1, 0 and 0.
	if m.Value != 0.25 || m.RivalValue == nil || *m.RivalValue != 0.25 {
		t.Errorf("the error is %v, that of the rival %v, want 0.25 for both", m.Value, m.RivalValue)
	}
	if metrics["restore_mean_time"].Value != 2 {
		t.Errorf("the mean time is %v, want 2", metrics["restore_mean_time"].Value)
	}
	if len(accuracy.Result{}.Metrics()) != 0 {
		t.Error("nothing was measured, and there are metrics")
	}
}
