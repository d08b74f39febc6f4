// SPDX-License-Identifier: Apache-2.0

// Package check judges an attack: from what was done and seen (test/e2e/chaos/history) and from what the recorder heard of the
// workloads, it tells which of Cryopod's promises were broken. It knows nothing of how the attack was made.
package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cryopod/cryopod/test/e2e/chaos/history"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

// Invariant is one of the promises.
type Invariant int

// The invariants.
const (
	// OneLiveCopy: at most one live copy of a process exists.
	OneLiveCopy Invariant = 1 + iota
	// RunsAgain: the pod ends up running, restored or cold.
	RunsAgain
	// NoPartialImage: what is restored goes on exactly from its cut, all of the pod or nothing.
	NoPartialImage
	// NotHeld: no eviction is held past its deadline.
	NotHeld
	// ClaimsEnd: every claim ends in Restored, a cold start or a release, and every attempt ends.
	ClaimsEnd
	// NothingLeft: nothing is left behind for ever.
	NothingLeft
	// AsWithout: with all of Cryopod down, all goes as without it.
	AsWithout
)

// Invariants are all of them, in order.
var Invariants = []Invariant{OneLiveCopy, RunsAgain, NoPartialImage, NotHeld, ClaimsEnd, NothingLeft, AsWithout}

var names = map[Invariant]string{
	OneLiveCopy: "one live copy", RunsAgain: "runs again", NoPartialImage: "no partial image", NotHeld: "not held past the deadline",
	ClaimsEnd: "claims end", NothingLeft: "nothing left behind", AsWithout: "as without Cryopod",
}

func (i Invariant) String() string { return names[i] }

// Violation is a promise broken.
type Violation struct {
	Invariant Invariant `json:"invariant"`
	What      string    `json:"what"`
}

func (v Violation) String() string {
	return fmt.Sprintf("invariant %d, %s: %s", v.Invariant, v.Invariant, v.What)
}

// Outcome is what became of a pod that was made to go.
type Outcome string

// The outcomes.
const (
	// Restored went on from where it stopped, Rewound from a checkpoint of its schedule.
	Restored Outcome = "restored"
	Rewound  Outcome = "rewound"
	// Cold began anew, Stayed went on where it was.
	Cold   Outcome = "cold"
	Stayed Outcome = "stayed"
	// Lost does not run.
	Lost Outcome = "lost"
)

// Pod is what became of a workload.
type Pod struct {
	Workload string  `json:"workload"`
	Outcome  Outcome `json:"outcome"`
	// Silence is the longest time for which the recorder heard nothing of one of its containers since it was made to go.
	Silence time.Duration `json:"silence"`
	// Recovery is how long after the last fault, or its going if that is later, it was seen to run again.
	Recovery time.Duration `json:"recovery"`
}

// Verdict is what is to be said of a run.
type Verdict struct {
	Violations []Violation `json:"violations,omitempty"`
	Pods       []Pod       `json:"pods"`
	// Held is how long the longest request was held.
	Held time.Duration `json:"held"`
}

// The bounds. Each is Cryopod's or Kubernetes' own with what a busy machine adds.
const (
	// Hold is how long a request is held (the webhook's --hold), HoldSlack what a busy machine adds.
	Hold      = 20 * time.Second
	HoldSlack = 10 * time.Second
	// Unanswered is when the API server goes on without a webhook that a fault keeps from answering: it asks twice, and waits for 30 s.
	Unanswered = 2 * 30 * time.Second
	// RunningBound is within what time after the last fault a pod runs again: its deadline, the scheduler's minute for a restore
	// that can't be placed, the kubelet's back-off, and a cold start.
	RunningBound = 150 * time.Second
	// GoingBound is within what time after the deadline, or after the last fault if that is later, a pod has begun to go: a leader's
	// lease, a request that is held, and the pause until the client asks again.
	GoingBound = 45 * time.Second
	// campaign is for how long after its deadline an attempt counts for requests that come again: a later one is a new one.
	campaign = time.Minute
	// RequestBound is within what time a request is answered that nobody holds, and StartBound a pod started that nobody saves: what is
	// tried while all of Cryopod is down.
	RequestBound = 5 * time.Second
	StartBound   = time.Minute
)

// judge is a run under judgement.
type judge struct {
	run     *history.Begin
	history []history.Entry
	steps   map[string][]recorder.Entry
	// triggered is when the pods were made to go, lastFault when the last fault ended.
	triggered, lastFault time.Time
	verdict              Verdict
}

// Judge judges a run by its history and the recorder's log.
func Judge(entries []history.Entry, log []recorder.Entry) Verdict {
	j := &judge{history: entries, steps: map[string][]recorder.Entry{}}
	if len(entries) == 0 || entries[0].Begin == nil {
		j.broken(RunsAgain, "the history does not begin with what the run is about")
		return j.verdict
	}
	j.run = entries[0].Begin
	for _, e := range log {
		j.steps[e.Workload] = append(j.steps[e.Workload], e)
	}
	for _, e := range entries {
		switch {
		case e.Step != nil && e.Step.Name == history.StepTrigger && !e.Step.Over:
			j.triggered = e.Time
		case e.Fault != nil && !e.Fault.Skipped && e.Time.After(j.lastFault):
			j.lastFault = e.Time
		}
	}
	for _, w := range j.run.Workloads {
		j.workload(w)
	}
	j.requests()
	j.going()
	j.claims()
	j.restored()
	j.end()
	slices.SortStableFunc(j.verdict.Violations, func(a, b Violation) int { return cmp.Compare(a.Invariant, b.Invariant) })
	return j.verdict
}

func (j *judge) broken(i Invariant, format string, args ...any) {
	j.verdict.Violations = append(j.verdict.Violations, Violation{Invariant: i, What: fmt.Sprintf(format, args...)})
}

// since is when the pods could begin to recover.
func (j *judge) since() time.Time {
	if j.lastFault.After(j.triggered) {
		return j.lastFault
	}
	return j.triggered
}

// running is the latest word that a workload runs again.
func (j *judge) running(workload string) (r *history.Running, at time.Time) {
	for _, e := range j.history {
		if e.Running != nil && e.Running.Workload == workload {
			r, at = e.Running, e.Time
		}
	}
	return r, at
}

func (j *judge) workload(w history.Workload) {
	p := Pod{Workload: w.Name, Outcome: Lost}
	r, at := j.running(w.Name)
	if r == nil || at.Before(j.since()) {
		j.broken(RunsAgain, "%s %q was not seen to run again", w.Kind, w.Name)
	} else if p.Recovery = at.Sub(j.since()); p.Recovery > RunningBound {
		j.broken(RunsAgain, "%s %q ran again %v after the last fault, want %v at most", w.Kind, w.Name, p.Recovery, RunningBound)
	}
	now := map[Outcome][]string{}
	for _, c := range w.Containers {
		all := lives(j.steps[c])
		j.verdict.Violations = append(j.verdict.Violations, j.judgeLives(w, c, all)...)
		p.Silence = max(p.Silence, silence(j.steps[c], j.triggered))
		if r == nil || len(all) == 0 {
			continue
		}
		o := outcome(all, r.IP)
		if o == Lost {
			j.broken(RunsAgain, "container %q is said to run at %s, but the recorder did not hear it last from there", c, r.IP)
		}
		now[o] = append(now[o], c)
		p.Outcome = o
	}
	if len(now) > 1 && !j.restarted(r.UID) {
		j.broken(NoPartialImage, "the containers of one pod of %q are not of one cut: %v", w.Name, now)
	}
	j.verdict.Pods = append(j.verdict.Pods, p)
}

// end judges how the run ended.
func (j *judge) end() {
	calm, residue := false, false
	for _, e := range j.history {
		switch {
		case e.Step != nil && e.Step.Over && e.Step.Error != "":
			j.failedStep(e.Step)
		case e.Step != nil && e.Step.Over && e.Step.Name == history.StepCalm:
			calm = true
		case e.Residue != nil:
			residue = true
			if e.Residue.Error != "" {
				j.broken(NothingLeft, "it could not be told what is left: %s", e.Residue.Error)
			}
			if len(e.Residue.Found) > 0 {
				j.broken(NothingLeft, "there is still: %s", strings.Join(e.Residue.Found, "; "))
			}
		case e.Probe != nil:
			j.probe(e.Probe)
		}
	}
	if !calm && !slices.ContainsFunc(j.verdict.Violations, func(v Violation) bool { return v.Invariant == NothingLeft }) {
		j.broken(NothingLeft, "the run did not come to rest")
	}
	if !residue {
		j.broken(NothingLeft, "nobody looked for what is left")
	}
}

func (j *judge) failedStep(s *history.Step) {
	switch s.Name {
	case history.StepTrigger:
		j.broken(NotHeld, "the pods did not go: %s", s.Error)
	case history.StepFaults:
		j.broken(RunsAgain, "a fault could not be ended: %s", s.Error)
	default:
		j.broken(NothingLeft, "%s: %s", s.Name, s.Error)
	}
}

// probe judges what was tried while all of Cryopod was down.
func (j *judge) probe(p *history.Probe) {
	bound := StartBound
	if p.Request {
		bound = RequestBound
	}
	switch {
	case p.Error != "":
		j.broken(AsWithout, "%s: %s", p.What, p.Error)
	case p.Took > bound:
		j.broken(AsWithout, "%s took %v, want %v at most", p.What, p.Took, bound)
	}
}
