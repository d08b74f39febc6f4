// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/chaos/check"
	"github.com/cryopod/cryopod/test/e2e/chaos/history"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

const (
	source, target = "10.244.1.5", "10.244.2.7"
	container      = "ns/w/c1"
	second         = "ns/w/c2"
)

var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// at is a time so many seconds after the run began. Pods go at 10, the fault is from 11 to 15, all run again at 20, all is over at 40.
func at(seconds float64) time.Time { return epoch.Add(time.Duration(seconds * float64(time.Second))) }

// forgery is a run that never was.
type forgery struct {
	entries []history.Entry
	steps   []recorder.Entry
	rewinds bool
	kind    string
	// restless and unsearched leave the ends of a run out.
	restless, unsearched bool
}

func (f *forgery) add(seconds float64, e history.Entry) {
	e.Time = at(seconds)
	f.entries = append(f.entries, e)
}

// did has a container of a pod do steps, four a second.
func (f *forgery) did(workload, peer string, from float64, first, last int64) {
	for step := first; step <= last; step++ {
		f.step(workload, peer, from, step, strconv.Itoa(len(f.steps)))
		from += 0.25
	}
}

func (f *forgery) step(workload, peer string, seconds float64, step int64, nonce string) {
	f.steps = append(f.steps, recorder.Entry{
		Message: recorder.Message{Workload: workload, Step: step, Nonce: nonce}, Sequence: int64(len(f.steps)) + 1, Peer: peer, Time: at(seconds),
	})
}

// begin is the part of a run until the pods stand still: they did 40 steps.
func begin() *forgery {
	f := &forgery{kind: "Deployment"}
	f.did(container, source, 1, 1, 40)
	return f
}

// checkpoint is a PodCheckpoint of the source as it was seen then.
func (f *forgery) checkpoint(seconds float64, change func(*history.Checkpoint)) {
	c := &history.Checkpoint{
		Name: "w-1", PodUID: "old", Reason: v1alpha1.ReasonEviction, Fence: true, Deadline: at(50),
		Phase: v1alpha1.PhaseRestored, Ready: true, Images: 1, Containers: 1, ClaimedBy: "new",
	}
	if change != nil {
		change(c)
	}
	f.add(seconds, history.Entry{Checkpoint: c})
}

func (f *forgery) running(seconds float64, ip string) {
	f.add(seconds, history.Entry{Running: &history.Running{Workload: "w", UID: "new", IP: ip}})
}

// judge judges the run between the parts that all of them have.
func (f *forgery) judge() check.Verdict {
	w := history.Workload{Name: "w", Kind: f.kind, Containers: []string{container}, PodUID: "old", IP: source}
	for _, s := range f.steps {
		if s.Workload == second {
			w.Containers = []string{container, second}
		}
	}
	all := []history.Entry{
		{Time: at(0), Begin: &history.Begin{Workloads: []history.Workload{w}, Rewinds: f.rewinds}},
		{Time: at(10), Step: &history.Step{Name: history.StepTrigger}},
		{Time: at(11), Fault: &history.Fault{ID: 1, Name: "kill-agent"}},
	}
	all = append(all, f.entries...)
	if !f.restless {
		all = append(all, history.Entry{Time: at(400), Step: &history.Step{Name: history.StepCalm, Over: true}})
	}
	if !f.unsearched {
		all = append(all, history.Entry{Time: at(401), Residue: &history.Residue{}})
	}
	return check.Judge(all, f.steps)
}

// restored is a run in which all went well: what the others differ from.
func restored() *forgery {
	f := begin()
	f.add(12, history.Entry{Request: &history.Request{Verb: "evict", Pod: "w-x", UID: "old", Took: 2 * time.Second, Code: 201}})
	f.checkpoint(14, nil)
	f.add(14.5, history.Entry{Pod: &history.Pod{UID: "new", Name: "w-y", Workload: "w", RestoreFrom: "w-1"}})
	f.add(15, history.Entry{Fault: &history.Fault{ID: 1, Name: "kill-agent", Over: true}})
	f.did(container, target, 16, 41, 80)
	f.running(20, target)
	return f
}

// well are runs in which no promise is broken.
var well = map[string]struct {
	forge func() *forgery
	want  check.Outcome
}{
	"restored": {restored, check.Restored},
	"restored in the middle of a step that it had told of": {func() *forgery {
		f := begin()
		f.checkpoint(14, nil)
		f.step(container, target, 16, 40, f.steps[39].Nonce)
		f.did(container, target, 16.2, 41, 80)
		f.running(20, target)
		return f
	}, check.Restored},
	"the old one's last packet arrives late": {func() *forgery {
		f := begin()
		f.checkpoint(14, nil)
		f.step(container, target, 16, 41, "the same")
		f.step(container, source, 16.1, 41, "the same")
		f.did(container, target, 16.2, 42, 80)
		f.running(20, target)
		return f
	}, check.Restored},
	"cold": {func() *forgery {
		f := begin()
		f.checkpoint(14, func(c *history.Checkpoint) { c.Phase, c.Ready, c.Images = v1alpha1.PhaseFailed, false, 0 })
		f.did(container, target, 16, 1, 30)
		f.running(20, target)
		return f
	}, check.Cold},
	"a cold one beside the old one, which is on its way out": {func() *forgery {
		f := begin()
		f.did(container, target, 9.5, 1, 2)
		f.did(container, source, 9.9, 41, 44)
		f.did(container, target, 12, 3, 30)
		f.running(20, target)
		return f
	}, check.Cold},
	"stayed": {func() *forgery {
		f := begin()
		f.checkpoint(14, func(c *history.Checkpoint) { c.Phase = v1alpha1.PhaseReleased })
		f.did(container, source, 16, 41, 80)
		f.running(20, source)
		return f
	}, check.Stayed},
	"a rewind where the node died": {func() *forgery {
		f := begin()
		f.rewinds = true
		f.did(container, target, 16, 21, 80)
		f.running(20, target)
		return f
	}, check.Rewound},
	"held for long while a fault kept the webhook from answering": {func() *forgery {
		f := restored()
		f.add(42, history.Entry{Request: &history.Request{Verb: "evict", Pod: "w-x", UID: "old", Took: 29 * time.Second, Code: 201}})
		return f
	}, check.Restored},
	"held for long while the API server was away": {func() *forgery {
		f := restored()
		f.add(100, history.Entry{API: &history.API{}})
		f.add(140, history.Entry{API: &history.API{Up: true}})
		f.add(141, history.Entry{Request: &history.Request{Verb: "evict", Pod: "w-x", UID: "old", Took: 50 * time.Second, Code: 201}})
		return f
	}, check.Restored},
	"put off again in a later campaign": {func() *forgery {
		f := restored()
		f.add(120, history.Entry{Request: &history.Request{Verb: "evict", Pod: "w-x", UID: "old", Code: 429}})
		return f
	}, check.Restored},
	"one container began anew after the restore": {func() *forgery {
		f := restored()
		f.did(second, source, 1, 1, 40)
		f.did(second, target, 16, 41, 45)
		f.did(second, target, 18, 1, 9)
		f.add(18, history.Entry{Pod: &history.Pod{UID: "new", Containers: []history.Container{{Restarts: 1}}}})
		return f
	}, check.Cold},
	"done as ever with all of it down": {func() *forgery {
		f := restored()
		f.add(30, history.Entry{Probe: &history.Probe{What: "making a pod", Took: time.Second}})
		return f
	}, check.Restored},
}

func TestJudgeWhatIsWell(t *testing.T) {
	for name, c := range well {
		t.Run(name, func(t *testing.T) {
			got := c.forge().judge()
			if len(got.Violations) > 0 {
				t.Errorf("violations: %v", got.Violations)
			}
			if len(got.Pods) != 1 || got.Pods[0].Outcome != c.want {
				t.Errorf("pods are %+v, want one that is %s", got.Pods, c.want)
			}
		})
	}
}

func TestJudgeMeasures(t *testing.T) {
	want := check.Verdict{
		Pods: []check.Pod{{Workload: "w", Outcome: check.Restored, Silence: 5250 * time.Millisecond, Recovery: 5 * time.Second}},
		Held: 2 * time.Second,
	}
	if diff := cmp.Diff(want, restored().judge()); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
}
