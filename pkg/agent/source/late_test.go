// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"errors"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// writeLate is what the runtime does whose kubelet has died: it finishes the dump.
func (n *node) writeLate() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.archives["app"] = true
}

// TestArchivesThatComeLate has the archive of a failed attempt appear after everything was cleaned.
func TestArchivesThatComeLate(t *testing.T) {
	for name, late := range map[string]struct {
		after time.Duration
		// again is whether the agent is another one by then.
		again bool
	}{"at once": {}, "after a while": {after: 100 * time.Second}, "while the agent was away": {after: time.Hour, again: true}} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nil)
			a := n.live(0)
			a.failOn["dump"] = errors.New("EOF")
			result := a.save()
			for waited := time.Duration(0); waited < late.after && !late.again; waited += result.RequeueAfter {
				if result.RequeueAfter <= 0 || result.RequeueAfter > 15*time.Second {
					t.Fatalf("after %s the agent looks again in %s", waited, result.RequeueAfter)
				}
				n.clock.Step(result.RequeueAfter)
				result = a.step()
			}
			n.writeLate()
			if late.again {
				n.clock.Step(late.after)
				a = n.live(0)
				result = a.step()
			} else {
				n.clock.Step(result.RequeueAfter)
				result = a.step()
			}
			if archives, _ := n.left(); len(archives) > 0 {
				t.Errorf("left: %v", archives)
			}
			for range 30 {
				if result.RequeueAfter == 0 {
					return
				}
				n.clock.Step(result.RequeueAfter)
				result = a.step()
			}
			t.Errorf("the agent looks again for ever, next in %s", result.RequeueAfter)
		})
	}
}

// TestArchivesOfAnotherAttempt leaves what may be another attempt's alone: within one second the names are the same.
func TestArchivesOfAnotherAttempt(t *testing.T) {
	n := newNode(t, nil)
	a := n.live(0)
	a.failOn["dump"] = errors.New("EOF")
	a.save()
	other := types.NamespacedName{Namespace: "ns", Name: "another-attempt"}
	if err := a.Ledger.Put(fence.Entry{Checkpoint: other, CheckpointUID: "other", Pod: "web-1", PodUID: n.checkpoint().Spec.PodUID}); err != nil {
		t.Fatal(err)
	}
	n.writeLate()
	n.clock.Step(time.Second)
	if result := a.step(); result.RequeueAfter == 0 {
		t.Error("the agent does not look again")
	}
	if archives, _ := n.left(); len(archives) != 1 {
		t.Errorf("left: %v, want the archive that may be the other attempt's", archives)
	}
	if err := a.Ledger.Drop(other); err != nil {
		t.Fatal(err)
	}
	a.step()
	if archives, _ := n.left(); len(archives) > 0 {
		t.Errorf("left: %v, want nothing once the other attempt is over", archives)
	}
}

// TestNoLateArchiveOfWhatWasSaved leaves archives alone that can't be of an attempt that was complete: people make such too.
func TestNoLateArchiveOfWhatWasSaved(t *testing.T) {
	n := newNode(t, nil)
	a := n.live(0)
	a.save()
	n.patchStatus(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Enter(v1alpha1.PhaseReleased, "", n.clock.Now()) })
	a.step()
	n.writeLate()
	n.clock.Step(time.Minute)
	a.step()
	if archives, _ := n.left(); len(archives) != 1 {
		t.Errorf("left: %v, want what is there", archives)
	}
}
