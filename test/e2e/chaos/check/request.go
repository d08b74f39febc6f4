// SPDX-License-Identifier: Apache-2.0

package check

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/chaos/history"
)

// span is a time from which to which something was so.
type span struct{ from, to time.Time }

func (s span) overlap(o span) time.Duration {
	from, to := s.from, s.to
	if o.from.After(from) {
		from = o.from
	}
	if o.to.Before(to) {
		to = o.to
	}
	return max(0, to.Sub(from))
}

// outages are when the API server did not answer.
func (j *judge) outages() []span {
	var all []span
	var down time.Time
	for _, e := range j.history {
		switch {
		case e.API == nil:
		case !e.API.Up && down.IsZero():
			down = e.Time
		case e.API.Up && !down.IsZero():
			all = append(all, span{down, e.Time})
			down = time.Time{}
		}
	}
	if !down.IsZero() {
		all = append(all, span{down, j.history[len(j.history)-1].Time})
	}
	return all
}

// faults are when anything was broken.
func (j *judge) faults() []span {
	var all []span
	begun := map[int]time.Time{}
	for _, e := range j.history {
		switch {
		case e.Fault == nil || e.Fault.Skipped:
		case e.Fault.Over:
			all = append(all, span{begun[e.Fault.ID], e.Time})
			delete(begun, e.Fault.ID)
		default:
			begun[e.Fault.ID] = e.Time
		}
	}
	for _, from := range begun {
		all = append(all, span{from, j.history[len(j.history)-1].Time})
	}
	return all
}

// recovery is for how long after a fault its effects are excused: programs come back.
const recovery = 5 * time.Second

// requests judges how long requests that pods go were held, and that none was put off after its deadline.
func (j *judge) requests() {
	outages, faults := j.outages(), j.faults()
	for _, e := range j.history {
		if e.Request == nil {
			continue
		}
		r := e.Request
		during := span{e.Time.Add(-r.Took), e.Time}
		allowed := Hold + HoldSlack
		if slices.ContainsFunc(faults, func(f span) bool { return during.overlap(span{f.from, f.to.Add(recovery)}) > 0 }) {
			allowed = Unanswered + HoldSlack
		}
		for _, o := range outages {
			allowed += during.overlap(o)
		}
		j.verdict.Held = max(j.verdict.Held, r.Took)
		if r.Took > allowed {
			j.broken(NotHeld, "a request to %s pod %q was held for %v, want %v at most", r.Verb, r.Pod, r.Took, allowed)
		}
		if r.Code == http.StatusTooManyRequests && !j.skewed() {
			j.putOff(r, during.from)
		}
	}
}

// skewed tells whether a clock was wrong: then it can't be told which deadline counted for whom. That the pods went is judged all the same.
func (j *judge) skewed() bool {
	return slices.ContainsFunc(j.history, func(e history.Entry) bool { return e.Fault != nil && strings.HasPrefix(e.Fault.Name, "clock-") })
}

// putOff judges a request that was to be tried again.
func (j *judge) putOff(r *history.Request, begun time.Time) {
	var deadline time.Time
	for _, c := range j.checkpoints() {
		if c.Fence && c.PodUID == j.uid(r, begun) && c.Deadline.After(deadline) {
			deadline = c.Deadline
		}
	}
	if deadline.IsZero() {
		return
	}
	if late := begun.Sub(deadline); late > HoldSlack && late < campaign {
		j.broken(NotHeld, "a request to %s pod %q was put off %v after its deadline", r.Verb, r.Pod, late)
	}
}

// uid is that of the pod which the request means: where it names none, of the pod of that name at that time.
func (j *judge) uid(r *history.Request, at time.Time) types.UID {
	if r.UID != "" {
		return r.UID
	}
	var found types.UID
	for _, e := range j.history {
		if e.Pod != nil && e.Pod.Name == r.Pod && (found == "" || !e.Time.After(at)) {
			found = e.Pod.UID
		}
	}
	return found
}

// checkpoints are the PodCheckpoints as they were last, before the run was cleared away.
func (j *judge) checkpoints() []*history.Checkpoint {
	var names []string
	last := map[string]*history.Checkpoint{}
	for _, e := range j.history {
		if e.Step != nil && e.Step.Name == history.StepEnd {
			break
		}
		if e.Checkpoint != nil {
			if last[e.Checkpoint.Name] == nil {
				names = append(names, e.Checkpoint.Name)
			}
			last[e.Checkpoint.Name] = e.Checkpoint
		}
	}
	var all []*history.Checkpoint
	for _, name := range names {
		all = append(all, last[name])
	}
	return all
}

// going judges that a pod which Cryopod promised to end has begun to go in time.
func (j *judge) going() {
	if j.skewed() {
		return
	}
	began := map[types.UID]time.Time{}
	var ended time.Time
	for _, e := range j.history {
		if e.Pod != nil && (e.Pod.Going || e.Pod.Gone) && began[e.Pod.UID].IsZero() {
			began[e.Pod.UID] = e.Time
		}
		if e.Step != nil && e.Step.Name == history.StepCalm && e.Step.Over {
			ended = e.Time
		}
	}
	for _, c := range j.checkpoints() {
		if c.Removal != v1alpha1.RemovalDelete || c.Deadline.IsZero() {
			continue
		}
		bound := c.Deadline
		if j.lastFault.After(bound) {
			bound = j.lastFault
		}
		bound = bound.Add(GoingBound)
		at, went := began[c.PodUID]
		switch {
		case went && at.After(bound):
			j.broken(NotHeld, "the pod of PodCheckpoint %q began to go %v too late", c.Name, at.Sub(bound))
		case !went && ended.After(bound):
			j.broken(NotHeld, "the pod of PodCheckpoint %q, whose deletion was put off, never went", c.Name)
		}
	}
}

// claims judges that every claim, and every attempt, ended.
func (j *judge) claims() {
	for _, c := range j.checkpoints() {
		switch {
		case c.Gone, c.Phase.Final(), c.Phase == v1alpha1.PhaseReady:
		case c.Phase == v1alpha1.PhaseClaimed:
			j.broken(ClaimsEnd, "the claim of PodCheckpoint %q by pod %q did not end", c.Name, c.ClaimedBy)
		default:
			j.broken(ClaimsEnd, "PodCheckpoint %q is still %q: %s", c.Name, c.Phase, c.Message)
		}
	}
}

// restored judges that pods were only started from checkpoints that were whole.
func (j *judge) restored() {
	whole := map[string]bool{}
	for _, e := range j.history {
		if c := e.Checkpoint; c != nil && c.Ready && c.Containers > 0 && c.Images == c.Containers {
			whole[c.Name] = true
		}
	}
	told := map[string]bool{}
	for _, e := range j.history {
		if e.Pod == nil || e.Pod.RestoreFrom == "" || whole[e.Pod.RestoreFrom] || told[e.Pod.Name] {
			continue
		}
		told[e.Pod.Name] = true
		j.broken(NoPartialImage, "pod %q is to start from PodCheckpoint %q, which never was whole", e.Pod.Name, e.Pod.RestoreFrom)
	}
}

// restarted tells whether a container of the pod was started more than once.
func (j *judge) restarted(uid types.UID) bool {
	for _, e := range j.history {
		if e.Pod != nil && e.Pod.UID == uid && slices.ContainsFunc(e.Pod.Containers, func(c history.Container) bool { return c.Restarts > 0 }) {
			return true
		}
	}
	return false
}
