// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// TestWithdraw looks at what is left in the registry of a checkpoint whose images were pushed.
func TestWithdraw(t *testing.T) {
	removed := func(n *node) {
		if err := n.api.Delete(n.t.Context(), n.checkpoint()); err != nil {
			n.t.Fatal(err)
		}
	}
	ended := func(n *node) {
		n.patchStatus(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Phase = v1alpha1.PhaseFailed })
	}
	both := []string{"app", "side"}
	tests := map[string]struct {
		// exporting and ready are what somebody else does while the images are pushed, and when the checkpoint is Ready.
		exporting, ready func(*node)
		after            time.Duration
		left             []string
	}{
		"ready":                               {left: both},
		"ready and claimed":                   {ready: func(n *node) { n.deletePod(); n.claim() }, after: time.Hour, left: both},
		"released":                            {after: 31 * time.Second},
		"failed, the pod was deleted":         {exporting: (*node).deletePod},
		"failed by the controller":            {exporting: ended},
		"removed, the pod is there":           {ready: removed},
		"removed, the pod was deleted before": {ready: func(n *node) { n.deletePod(); removed(n) }, left: both},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nil)
			a := n.live(0)
			if tc.exporting != nil {
				var once sync.Once
				a.meanwhile = func() { once.Do(func() { tc.exporting(n) }) }
			}
			a.save()
			if tc.ready != nil {
				tc.ready(n)
			}
			n.clock.Step(tc.after)
			// The next life has only what is written to go by.
			n.live(0).step()
			if _, pushed := n.left(); !cmp.Equal(tc.left, pushed) {
				t.Errorf("images %v are left, want %v", pushed, tc.left)
			}
		})
	}
}

// TestArchivesOfOrphans leaves those of a pod that is gone: by their names they might be a later pod's.
func TestArchivesOfOrphans(t *testing.T) {
	n := newNode(t, nil)
	n.live(7).save()
	if err := n.api.Delete(t.Context(), n.checkpoint()); err != nil {
		t.Fatal(err)
	}
	n.deletePod()
	a := n.live(0)
	a.step()
	for _, id := range ids {
		n.fence.Set(id, fence.Gone)
	}
	a.step()
	if archives, _ := n.left(); len(archives) != 2 || len(openLedger(t, n).All()) != 0 {
		t.Errorf("archives %v are left, want both containers'; the ledger has %v", archives, openLedger(t, n).All())
	}
}
