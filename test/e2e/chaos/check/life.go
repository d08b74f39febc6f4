// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"time"

	"github.com/cryopod/cryopod/test/e2e/chaos/history"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

// life is a container process from its start, cold or from a checkpoint, as far as the recorder heard of it.
type life struct {
	peer string
	// steps are what it did, each once, in order.
	steps []recorder.Entry
	fault string
}

func (l *life) first() recorder.Entry { return l.steps[0] }
func (l *life) last() recorder.Entry  { return l.steps[len(l.steps)-1] }

// cold tells whether it began anew: a process counts from 1.
func (l *life) cold() bool { return l.first().Step == 1 }

func (l *life) String() string {
	return fmt.Sprintf("steps %d to %d from %s on %s", l.first().Step, l.last().Step, l.peer, l.first().Node)
}

// lives tells the lives of a container apart, in the order of their beginnings. What was sent twice counts where it came from first, unless
// it was the restored process that repeated it: that is its first word, and the old one's may arrive after it.
func lives(entries []recorder.Entry) []*life {
	var all []*life
	current := map[string]*life{}
	seen := map[string]bool{}
	for _, e := range entries {
		l := current[e.Peer]
		if e.Fault != "" {
			if l != nil {
				l.fault = e.Fault
			}
			continue
		}
		if seen[e.Nonce] && l != nil {
			continue
		}
		seen[e.Nonce] = true
		if l == nil || e.Step != l.last().Step+1 {
			l = &life{peer: e.Peer}
			current[e.Peer] = l
			all = append(all, l)
		}
		l.steps = append(l.steps, e)
	}
	return all
}

// parent is the life that r was restored from: the one that stopped right before r's first step, or in the middle of it.
func parent(all []*life, r *life) *life {
	var found *life
	for _, l := range all {
		if l == r {
			break
		}
		cut := l.last()
		if r.first().Step == cut.Step+1 || r.first().Nonce == cut.Nonce {
			found = l
		}
	}
	return found
}

// judgeLives judges the lives of one container.
func (j *judge) judgeLives(w history.Workload, container string, all []*life) []Violation {
	var found []Violation
	add := func(i Invariant, format string, args ...any) {
		found = append(found, Violation{Invariant: i, What: fmt.Sprintf("container %q: ", container) + fmt.Sprintf(format, args...)})
	}
	if len(all) == 0 {
		add(RunsAgain, "the recorder never heard of it")
		return found
	}
	children := map[*life]*life{}
	for i, l := range all {
		if l.fault != "" {
			add(NoPartialImage, "it found its own state to be wrong (%v): %s", l, l.fault)
		}
		if w.Kind == "StatefulSet" && i > 0 {
			for _, older := range all[:i] {
				if older.peer != l.peer && older.last().Sequence > l.first().Sequence {
					add(OneLiveCopy, "two pods of one name lived at once: %v, and %v", older, l)
				}
			}
		}
		if l.cold() {
			continue
		}
		if i == 0 {
			add(NoPartialImage, "it began with step %d", l.first().Step)
			continue
		}
		p := parent(all, l)
		if p == nil {
			j.orphan(all, l, add)
			continue
		}
		if other := children[p]; other != nil {
			add(OneLiveCopy, "one cut was restored twice: %v, and %v", other, l)
		}
		children[p] = l
	}
	return found
}

// orphan judges a restored life that does not go on where another stopped.
func (j *judge) orphan(all []*life, r *life, add func(Invariant, string, ...any)) {
	first := r.first().Step
	for _, l := range all {
		if l == r {
			break
		}
		from, to := l.first().Step, l.last().Step
		if first < from || first > to {
			continue
		}
		overlap := l.last().Sequence > r.first().Sequence
		if j.run.Rewinds && !overlap {
			return
		}
		add(OneLiveCopy, "steps were done twice: %v, and restored %v (at the same time: %t)", l, r, overlap)
		return
	}
	add(NoPartialImage, "steps are missing: it goes on with %v, where none had stopped", r)
}

// outcome is what the process is that runs at the address in the end.
func outcome(all []*life, peer string) Outcome {
	if len(all) == 0 {
		return Lost
	}
	// The one that was heard last, whichever began last.
	now := all[0]
	for _, l := range all {
		if l.last().Sequence > now.last().Sequence {
			now = l
		}
	}
	switch {
	case now.peer != peer:
		return Lost
	case now == all[0]:
		return Stayed
	case now.cold():
		return Cold
	case parent(all, now) == nil:
		return Rewound
	default:
		return Restored
	}
}

// silence is the longest time for which nothing was heard from then on.
func silence(entries []recorder.Entry, from time.Time) time.Duration {
	var longest time.Duration
	for i := 1; i < len(entries); i++ {
		if entries[i].Time.After(from) {
			longest = max(longest, entries[i].Time.Sub(entries[i-1].Time))
		}
	}
	return longest
}
