// SPDX-License-Identifier: Apache-2.0

package profile_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/agent/profile"
)

const mebibyte = 1 << 20

// look is what containerd says at a moment: of each layer how many MiB have come, and which are whole.
type look struct {
	at      float64
	pulling map[string]int64
	whole   map[string]profile.Arrival
}

func at(seconds float64) time.Time { return now.Add(time.Duration(seconds * float64(time.Second))) }

func TestPullMeter(t *testing.T) {
	arrived := func(digest string, mebibytes int64, seconds float64) map[string]profile.Arrival {
		return map[string]profile.Arrival{digest: {Bytes: mebibytes * mebibyte, At: at(seconds)}}
	}
	tests := map[string]struct {
		// since is when each layer's pull began, in seconds.
		since map[string]float64
		looks []look
		// mebibytes and seconds are what is measured in the end; 0 when nothing is.
		mebibytes int64
		seconds   float64
	}{
		"one layer": {map[string]float64{"a": 1.5}, []look{
			{1, nil, nil}, {2, map[string]int64{"a": 10}, nil}, {2.25, map[string]int64{"a": 15}, nil}, {2.5, nil, arrived("a", 20, 2.45)},
		}, 20, 0.95},
		"two layers share the time": {map[string]float64{"a": 1, "b": 1.5}, []look{
			{1, nil, nil}, {2, map[string]int64{"a": 10, "b": 5}, nil}, {2.25, map[string]int64{"b": 10}, arrived("a", 12, 2.1)},
			{2.5, nil, arrived("b", 12, 2.5)},
		}, 24, 1.5},
		"a pull that is broken off counts as far as it was seen": {map[string]float64{"a": 1}, []look{
			{1, nil, nil}, {2, map[string]int64{"a": 10}, nil}, {2.25, nil, nil},
		}, 10, 1},
		"a long stall is not counted": {map[string]float64{"a": 1}, []look{
			{1, nil, nil}, {2, map[string]int64{"a": 10}, nil}, {2.25, map[string]int64{"a": 10}, nil}, {9, map[string]int64{"a": 10}, nil},
			{9.25, map[string]int64{"a": 12}, nil}, {9.5, nil, nil},
		}, 12, 1.25},
		"a short pause is counted": {map[string]float64{"a": 1}, []look{
			{1, nil, nil}, {2, map[string]int64{"a": 10}, nil}, {2.5, map[string]int64{"a": 10}, nil}, {3, map[string]int64{"a": 12}, nil}, {3.25, nil, nil},
		}, 12, 2},
		"little says nothing": {map[string]float64{"a": 1}, []look{{1, nil, nil}, {2, map[string]int64{"a": 3}, nil}, {2.25, nil, nil}}, 0, 0},
		"what an earlier pull left is not counted": {map[string]float64{"a": -1000}, []look{
			{1, nil, nil}, {2, map[string]int64{"a": 90}, nil}, {2.25, map[string]int64{"a": 100}, nil}, {2.5, nil, nil},
		}, 10, 0.25},
		"what was under way when the agent came counts from then": {map[string]float64{"a": 0.5}, []look{
			{1, map[string]int64{"a": 100}, nil}, {1.25, map[string]int64{"a": 110}, nil}, {1.5, nil, arrived("a", 120, 1.5)},
		}, 20, 0.5},
		"much is a measurement of its own": {map[string]float64{"a": 1}, []look{
			{1, nil, nil}, {2, map[string]int64{"a": 100}, nil}, {3, map[string]int64{"a": 300}, nil},
		}, 300, 2},
		"nothing": {nil, []look{{1, nil, nil}, {2, nil, nil}}, 0, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m := &profile.PullMeter{}
			var bytes int64
			var took time.Duration
			for _, l := range tc.looks {
				var pulls []containerd.Ingest
				for digest, mebibytes := range l.pulling {
					pulls = append(pulls, containerd.Ingest{Digest: digest, Bytes: mebibytes * mebibyte, Since: at(tc.since[digest])})
				}
				bytes, took = m.Look(at(l.at), pulls, l.whole)
			}
			want := []any{tc.mebibytes, at(tc.seconds).Sub(now)}
			if diff := cmp.Diff(want, []any{bytes / mebibyte, took}); diff != "" {
				t.Errorf("MiB and time (-want +got):\n%s", diff)
			}
		})
	}
}

// store is a containerd with one pull, of 1 MiB in each 10 ms.
type store struct {
	begin time.Time
	size  int64
	looks int
}

func (s *store) Ingests(context.Context) ([]containerd.Ingest, error) {
	if s.looks++; s.looks == 2 {
		return nil, errors.New("the runtime was restarted")
	}
	if n := int64(time.Since(s.begin) / (10 * time.Millisecond)); n >= 0 && n < s.size && !time.Now().Before(s.begin) {
		return []containerd.Ingest{{Digest: "a", Bytes: n * mebibyte, Since: s.begin}}, nil
	}
	return nil, nil
}

func (s *store) Arrived(context.Context, string) (int64, time.Time, bool, error) {
	return s.size * mebibyte, s.begin.Add(time.Duration(s.size) * 10 * time.Millisecond), true, nil
}

// TestPullWatcher looks once a second while nothing is pulled, four times a second while something is, or is expected.
func TestPullWatcher(t *testing.T) {
	tests := map[string]struct {
		announced bool
		// begin is when the pull begins.
		begin time.Duration
		size  int64
		looks int
	}{
		"a pull that nobody told of":     {false, 3500 * time.Millisecond, 200, 20},
		"a small one that was announced": {true, 3300 * time.Millisecond, 30, 39},
		"a small one, unannounced":       {false, 3300 * time.Millisecond, 30, 13},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &store{begin: time.Now().Add(tc.begin), size: tc.size}
				var rates []int64
				w := &profile.PullWatcher{
					Puller: s, Clock: clock.RealClock{},
					Watch: func(ctx context.Context, starts func()) error {
						time.Sleep(3 * time.Second)
						if tc.announced {
							starts()
						}
						<-ctx.Done()
						return ctx.Err()
					},
					Measured: func(bytes int64, took time.Duration) {
						rates = append(rates, int64(float64(bytes)/took.Seconds()/mebibyte))
					},
				}
				ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second+time.Millisecond)
				defer cancel()
				if err := w.Start(ctx); err != nil {
					t.Errorf("Start = %v", err)
				}
				synctest.Wait()
				var want []int64
				if tc.announced || tc.size > 100 {
					want = []int64{100}
				}
				if diff := cmp.Diff(want, rates); diff != "" {
					t.Errorf("MiB a second (-want +got):\n%s", diff)
				}
				if s.looks < tc.looks-3 || s.looks > tc.looks+3 {
					t.Errorf("looked %d times in 12 s, want about %d", s.looks, tc.looks)
				}
			})
		})
	}
}
