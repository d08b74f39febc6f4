// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"testing"
	"time"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/chaos/check"
	"github.com/cryopod/cryopod/test/e2e/chaos/history"
)

// broken are runs that break one promise each.
var broken = map[string]struct {
	want  check.Invariant
	forge func() *forgery
}{
	"the source goes on beside the restored one": {check.OneLiveCopy, func() *forgery {
		f := restored()
		f.did(container, source, 30, 41, 50)
		f.did(container, target, 33, 81, 90)
		return f
	}},
	"the source went on after its cut": {check.OneLiveCopy, func() *forgery {
		f := begin()
		f.checkpoint(14, nil)
		f.did(container, target, 16, 31, 80)
		f.running(20, target)
		return f
	}},
	"one checkpoint started twice": {check.OneLiveCopy, func() *forgery {
		f := restored()
		f.did(container, "10.244.3.3", 30, 41, 90)
		f.running(40, "10.244.3.3")
		return f
	}},
	"a container that ended started from its checkpoint again": {check.OneLiveCopy, func() *forgery {
		f := restored()
		f.did(container, target, 30, 41, 60)
		return f
	}},
	"a rewind though no node died": {check.OneLiveCopy, func() *forgery {
		f := begin()
		f.did(container, target, 16, 21, 80)
		f.running(20, target)
		return f
	}},
	"a rewind of a node that lives": {check.OneLiveCopy, func() *forgery {
		f := begin()
		f.rewinds = true
		f.did(container, target, 16, 21, 80)
		f.did(container, source, 30, 41, 44)
		f.did(container, target, 36, 81, 90)
		f.running(40, target)
		return f
	}},
	"two pods of one name of a StatefulSet": {check.OneLiveCopy, func() *forgery {
		f := begin()
		f.kind = "StatefulSet"
		f.did(container, target, 11, 1, 4)
		f.did(container, source, 12, 41, 44)
		f.did(container, target, 13, 5, 40)
		f.running(20, target)
		return f
	}},
	"it never runs again": {check.RunsAgain, func() *forgery {
		f := begin()
		f.checkpoint(14, nil)
		return f
	}},
	"it ran again before the last fault only": {check.RunsAgain, func() *forgery {
		f := restored()
		f.add(200, history.Entry{Fault: &history.Fault{ID: 2, Name: "node-cut"}})
		f.add(210, history.Entry{Fault: &history.Fault{ID: 2, Name: "node-cut", Over: true}})
		return f
	}},
	"it runs again too late": {check.RunsAgain, func() *forgery {
		f := begin()
		f.did(container, target, 316, 41, 80)
		f.running(320, target)
		return f
	}},
	"it was never heard": {check.RunsAgain, func() *forgery {
		f := restored()
		f.steps = nil
		return f
	}},
	"the pod that is said to run is not heard": {check.RunsAgain, func() *forgery {
		f := restored()
		f.running(21, "10.244.3.3")
		return f
	}},
	"a fault that could not be ended": {check.RunsAgain, func() *forgery {
		f := restored()
		f.add(30, history.Entry{Step: &history.Step{Name: history.StepFaults, Over: true, Error: "no"}})
		return f
	}},
	"steps are missing": {check.NoPartialImage, func() *forgery {
		f := begin()
		f.checkpoint(14, nil)
		f.did(container, target, 16, 45, 80)
		f.running(20, target)
		return f
	}},
	"it begins in the middle": {check.NoPartialImage, func() *forgery {
		f := restored()
		f.steps = f.steps[5:]
		return f
	}},
	"memory is not as it was": {check.NoPartialImage, func() *forgery {
		f := restored()
		f.step(container, target, 30, 0, "told")
		f.steps[len(f.steps)-1].Fault = "chunk 3 has another checksum"
		return f
	}},
	"one container restored and one cold": {check.NoPartialImage, func() *forgery {
		f := restored()
		f.did(second, source, 1, 1, 40)
		f.did(second, target, 16, 1, 40)
		return f
	}},
	"started from what never was whole": {check.NoPartialImage, func() *forgery {
		f := restored()
		for i := range f.entries {
			if f.entries[i].Checkpoint != nil {
				f.entries[i].Checkpoint.Images = 0
			}
		}
		return f
	}},
	"started from what never was Ready": {check.NoPartialImage, func() *forgery {
		f := restored()
		for i := range f.entries {
			if f.entries[i].Checkpoint != nil {
				f.entries[i].Checkpoint.Ready = false
			}
		}
		return f
	}},
	"a request is held for too long": {check.NotHeld, func() *forgery {
		f := restored()
		f.add(100, history.Entry{Request: &history.Request{Verb: "evict", Pod: "w-x", UID: "old", Took: 31 * time.Second, Code: 201}})
		return f
	}},
	"a request is held for too long even for a fault": {check.NotHeld, func() *forgery {
		f := restored()
		f.add(50, history.Entry{Request: &history.Request{Verb: "evict", Pod: "w-x", UID: "old", Took: 71 * time.Second, Code: 201}})
		return f
	}},
	"put off after the deadline": {check.NotHeld, func() *forgery {
		f := restored()
		f.add(65, history.Entry{Request: &history.Request{Verb: "evict", Pod: "w-x", UID: "old", Code: 429}})
		return f
	}},
	"put off after the deadline, by the pod's name": {check.NotHeld, func() *forgery {
		f := restored()
		f.add(12, history.Entry{Pod: &history.Pod{UID: "old", Name: "w-x"}})
		f.add(65, history.Entry{Request: &history.Request{Verb: "evict", Pod: "w-x", Code: 429}})
		return f
	}},
	"the pods never went": {check.NotHeld, func() *forgery {
		f := restored()
		f.add(30, history.Entry{Step: &history.Step{Name: history.StepTrigger, Over: true, Error: "still there"}})
		return f
	}},
	"a promised deletion that never came": {check.NotHeld, func() *forgery {
		f := restored()
		f.checkpoint(30, func(c *history.Checkpoint) { c.Removal = v1alpha1.RemovalDelete })
		return f
	}},
	"a promised deletion that came too late": {check.NotHeld, func() *forgery {
		f := restored()
		f.checkpoint(30, func(c *history.Checkpoint) { c.Removal = v1alpha1.RemovalDelete })
		f.add(100, history.Entry{Pod: &history.Pod{UID: "old", Name: "w-x", Going: true}})
		return f
	}},
	"a claim without an end": {check.ClaimsEnd, func() *forgery {
		f := restored()
		f.checkpoint(30, func(c *history.Checkpoint) { c.Phase = v1alpha1.PhaseClaimed })
		return f
	}},
	"an attempt without an end": {check.ClaimsEnd, func() *forgery {
		f := restored()
		f.checkpoint(30, func(c *history.Checkpoint) { c.Phase = v1alpha1.PhaseDumping })
		return f
	}},
	"something is left": {check.NothingLeft, func() *forgery {
		f := restored()
		f.add(400, history.Entry{Residue: &history.Residue{Found: []string{"a tar"}}})
		return f
	}},
	"it can't be told what is left": {check.NothingLeft, func() *forgery {
		f := restored()
		f.add(400, history.Entry{Residue: &history.Residue{Error: "no answer"}})
		return f
	}},
	"it breaks off before it comes to rest": {check.NothingLeft, func() *forgery {
		f := restored()
		f.restless = true
		return f
	}},
	"nobody looked for what is left": {check.NothingLeft, func() *forgery {
		f := restored()
		f.unsearched = true
		return f
	}},
	"no rest": {check.NothingLeft, func() *forgery {
		f := restored()
		f.add(390, history.Entry{Step: &history.Step{Name: history.StepCalm, Over: true, Error: "an agent is not ready"}})
		return f
	}},
	"with all of it down, something fails": {check.AsWithout, func() *forgery {
		f := restored()
		f.add(30, history.Entry{Probe: &history.Probe{What: "an eviction", Error: "429"}})
		return f
	}},
	"with all of it down, a request takes long": {check.AsWithout, func() *forgery {
		f := restored()
		f.add(30, history.Entry{Probe: &history.Probe{What: "an eviction", Request: true, Took: 6 * time.Second}})
		return f
	}},
	"with all of it down, a pod takes long to start": {check.AsWithout, func() *forgery {
		f := restored()
		f.add(30, history.Entry{Probe: &history.Probe{What: "a pod", Took: 61 * time.Second}})
		return f
	}},
}

// TestJudgeWhatIsBroken breaks each promise in each way that there is, and nothing else.
func TestJudgeWhatIsBroken(t *testing.T) {
	for name, c := range broken {
		t.Run(name, func(t *testing.T) {
			got := c.forge().judge()
			if len(got.Violations) != 1 || got.Violations[0].Invariant != c.want {
				t.Errorf("violations are %v, want one of %q", got.Violations, c.want)
			}
		})
	}
}

// TestJudgeNothing has no history at all: that may not count as well.
func TestJudgeNothing(t *testing.T) {
	if got := check.Judge(nil, restored().steps).Violations; len(got) == 0 {
		t.Error("an empty history passes")
	}
}
