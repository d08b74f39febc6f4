// SPDX-License-Identifier: Apache-2.0

package recorder_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/test/e2e/recorder"
)

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// step is an entry that arrived at so many milliseconds after begin.
func step(n int64, nonce, peer string, at int) recorder.Entry {
	return recorder.Entry{
		Message: recorder.Message{Workload: "w", Step: n, Nonce: nonce},
		Peer:    peer,
		Time:    begin.Add(time.Duration(at) * time.Millisecond),
	}
}

func done(e recorder.Entry, n int64) recorder.Entry {
	e.Done = n
	return e
}

func fault(text string) recorder.Entry {
	e := step(0, "f", "a", 0)
	e.Fault = text
	return e
}

func TestCheck(t *testing.T) {
	cases := map[string]struct {
		entries []recorder.Entry
		want    recorder.Verdict
		bad     bool
	}{
		"nothing": {},
		"undisturbed": {
			entries: []recorder.Entry{step(1, "p", "a", 0), step(2, "q", "a", 50)},
			want:    recorder.Verdict{Highest: 2},
		},
		"moved without a loss": {
			entries: []recorder.Entry{step(1, "p", "a", 0), step(2, "q", "b", 700)},
			want: recorder.Verdict{Highest: 2, Moves: []recorder.Move{
				{Last: step(1, "p", "a", 0), First: step(2, "q", "b", 700)},
			}},
		},
		"the same nonce again is a retry": {
			entries: []recorder.Entry{step(1, "p", "a", 0), step(2, "q", "a", 50), step(2, "q", "b", 900), step(3, "r", "b", 950)},
			want: recorder.Verdict{Highest: 3, Moves: []recorder.Move{
				{Last: step(2, "q", "a", 50), First: step(2, "q", "b", 900)},
			}},
		},
		"another nonce for a step is a repetition, told once": {
			entries: []recorder.Entry{step(1, "p", "a", 0), step(2, "q", "a", 50), step(2, "x", "b", 900), step(2, "y", "b", 950)},
			want: recorder.Verdict{Highest: 2, Repeated: []int64{2}, Moves: []recorder.Move{
				{Last: step(2, "q", "a", 50), First: step(2, "x", "b", 900)},
			}},
			bad: true,
		},
		"a cold start repeats from the first step on": {
			entries: []recorder.Entry{step(1, "p", "a", 0), step(2, "q", "a", 50), step(1, "x", "b", 900), step(2, "y", "b", 950)},
			want: recorder.Verdict{Highest: 2, Repeated: []int64{1, 2}, Moves: []recorder.Move{
				{Last: step(2, "q", "a", 50), First: step(1, "x", "b", 900)},
			}},
			bad: true,
		},
		"a gap is a loss": {
			entries: []recorder.Entry{step(2, "p", "a", 0), step(5, "q", "a", 50)},
			want:    recorder.Verdict{Highest: 5, Lost: []int64{1, 3, 4}},
			bad:     true,
		},
		"a step that the workload counts but the log lacks is a loss": {
			entries: []recorder.Entry{step(1, "p", "a", 0), done(step(2, "q", "a", 50), 4)},
			want:    recorder.Verdict{Highest: 2, Lost: []int64{3, 4}},
			bad:     true,
		},
		"a fault is no step": {
			entries: []recorder.Entry{step(1, "p", "a", 0), fault("memory")},
			want:    recorder.Verdict{Highest: 1, Faults: []string{"memory"}},
			bad:     true,
		},
		"the old pod speaks after the new one": {
			entries: []recorder.Entry{step(1, "p", "a", 0), step(2, "q", "b", 10), step(2, "q", "a", 20)},
			want: recorder.Verdict{
				Highest:  2,
				Overlaps: []recorder.Entry{step(2, "q", "a", 20)},
				Moves:    []recorder.Move{{Last: step(1, "p", "a", 0), First: step(2, "q", "b", 10)}},
			},
			bad: true,
		},
		"two moves": {
			entries: []recorder.Entry{step(1, "p", "a", 0), step(2, "q", "b", 10), step(3, "r", "c", 20)},
			want: recorder.Verdict{Highest: 3, Moves: []recorder.Move{
				{Last: step(1, "p", "a", 0), First: step(2, "q", "b", 10)},
				{Last: step(2, "q", "b", 10), First: step(3, "r", "c", 20)},
			}},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := recorder.Check(c.entries)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("Check (-want +got):\n%s", diff)
			}
			if bad := got.Err() != nil; bad != c.bad {
				t.Errorf("Err() = %v, want an error: %v", got.Err(), c.bad)
			}
		})
	}
}

func TestDowntime(t *testing.T) {
	m := recorder.Move{Last: step(7, "p", "a", 250), First: step(8, "q", "b", 1750)}
	if got, want := m.Downtime(), 1500*time.Millisecond; got != want {
		t.Errorf("Downtime() = %v, want %v", got, want)
	}
}
