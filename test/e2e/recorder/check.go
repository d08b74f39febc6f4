// SPDX-License-Identifier: Apache-2.0

package recorder

import (
	"fmt"
	"slices"
	"time"
)

// Move is the passage of a workload from one pod to the next.
type Move struct {
	// Last is the last step recorded before the move, First the first one after it.
	Last, First Entry
}

// Downtime is how long the recorder heard nothing.
func (m Move) Downtime() time.Duration {
	return m.First.Time.Sub(m.Last.Time)
}

// Verdict is what a log says about one workload.
type Verdict struct {
	// Highest is the highest step recorded.
	Highest int64
	// Lost are the steps that are missing: below the highest, or counted as done by the workload.
	Lost []int64
	// Repeated are the steps that were done more than once, each with its own nonce.
	Repeated []int64
	// Overlaps are entries of a pod that spoke again after its successor had spoken: two of them lived at once.
	Overlaps []Entry
	// Faults are what the workload found wrong with itself.
	Faults []string
	// Moves are the changes from one pod to another, in order.
	Moves []Move
}

// Err is nil when nothing was lost, repeated or found wrong, and no two pods lived at once.
func (v Verdict) Err() error {
	if len(v.Lost)+len(v.Repeated)+len(v.Overlaps)+len(v.Faults) == 0 {
		return nil
	}
	return fmt.Errorf("checking the recorder's log: %d steps lost %v, %d repeated %v, %d messages from a pod already replaced, faults %q",
		len(v.Lost), head(v.Lost), len(v.Repeated), head(v.Repeated), len(v.Overlaps), v.Faults)
}

func head(steps []int64) []int64 {
	return steps[:min(len(steps), 10)]
}

// Check judges the entries of one workload, given in the order of their arrival.
func Check(entries []Entry) Verdict {
	var v Verdict
	nonces := map[int64]string{}
	repeated := map[int64]bool{}
	var end int64
	for _, e := range entries {
		end = max(end, e.Step, e.Done)
		if e.Fault != "" {
			v.Faults = append(v.Faults, e.Fault)
			continue
		}
		v.Highest = max(v.Highest, e.Step)
		nonce, seen := nonces[e.Step]
		switch {
		case !seen:
			nonces[e.Step] = e.Nonce
		case nonce != e.Nonce && !repeated[e.Step]:
			repeated[e.Step] = true
			v.Repeated = append(v.Repeated, e.Step)
		}
	}
	for step := int64(1); step <= end; step++ {
		if _, ok := nonces[step]; !ok {
			v.Lost = append(v.Lost, step)
		}
	}
	slices.Sort(v.Repeated)
	v.Moves, v.Overlaps = moves(entries)
	return v
}

func moves(entries []Entry) (found []Move, overlaps []Entry) {
	replaced := map[string]bool{}
	for i := 1; i < len(entries); i++ {
		last, next := entries[i-1], entries[i]
		if replaced[next.Peer] {
			overlaps = append(overlaps, next)
		}
		if last.Peer == next.Peer {
			continue
		}
		replaced[last.Peer] = true
		if !replaced[next.Peer] {
			found = append(found, Move{Last: last, First: next})
		}
	}
	return found, overlaps
}
