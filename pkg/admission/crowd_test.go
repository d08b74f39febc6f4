// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"fmt"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// crowd is as many Ready checkpoints of one owner.
func crowd(n int, changes ...func(*v1alpha1.PodCheckpoint)) []client.Object {
	var all []client.Object
	for i := range n {
		all = append(all, readyFrom(fmt.Sprintf("web-%02d", i), now, changes...))
	}
	return all
}

// TestPodClaimByAllAtOnce has as many replacements made at the same time as there are checkpoints: each one gets one.
func TestPodClaimByAllAtOnce(t *testing.T) {
	const pods = 50
	w := newWorld(t, crowd(pods)...)
	var group sync.WaitGroup
	for i := range pods {
		group.Go(func() { w.createBy(types.UID(fmt.Sprintf("request-%d", i)), replacement(), false) })
	}
	group.Wait()
	for _, pc := range w.checkpoints() {
		if pc.Status.Phase != v1alpha1.PhaseClaimed {
			t.Errorf("%s is %s, want Claimed", pc.Name, pc.Status.Phase)
		}
	}
}

// TestPodClaimSpreads looks at which checkpoint each of several requests tries first.
func TestPodClaimSpreads(t *testing.T) {
	tried := map[string]bool{}
	for i := range 10 {
		var last string
		for range 2 {
			w := newWorld(t, crowd(50)...)
			request := types.UID(fmt.Sprintf("request-%d", i))
			w.createBy(request, replacement(), false)
			if n := w.count("get v1alpha1.PodCheckpoint"); n != 1 {
				t.Fatalf("%d checkpoints were read, want 1", n)
			}
			for _, pc := range w.checkpoints() {
				if pc.Status.Phase == v1alpha1.PhaseClaimed {
					if last != "" && last != pc.Name {
						t.Errorf("%s claims %s, called again %s", request, last, pc.Name)
					}
					last = pc.Name
				}
			}
		}
		tried[last] = true
	}
	if len(tried) < 7 {
		t.Errorf("10 requests try %d of 50 checkpoints first: %v", len(tried), tried)
	}
}

// TestPodClaimReadsOnlyWhatMayFit has none that fits: those that the cache rules out cost no call.
func TestPodClaimReadsOnlyWhatMayFit(t *testing.T) {
	slot := func(pc *v1alpha1.PodCheckpoint) { pc.Status.Owner.Slot = pc.Spec.PodName }
	template := func(pc *v1alpha1.PodCheckpoint) { pc.Status.TemplateHash = "older" }
	unsaid := func(pc *v1alpha1.PodCheckpoint) { pc.Status = v1alpha1.PodCheckpointStatus{} }
	tests := map[string]struct {
		change func(*v1alpha1.PodCheckpoint)
		reads  int
	}{
		"claimed":             {phaseTo(v1alpha1.PhaseClaimed, ""), 0},
		"restored":            {phaseTo(v1alpha1.PhaseRestored, ""), 0},
		"of other slots":      {slot, 0},
		"of another template": {template, 0},
		"not begun":           {unsaid, 3},
		"under way":           {phaseTo(v1alpha1.PhaseExporting, ""), 3},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, crowd(3, tc.change)...)
			w.create(replacement(), false)
			if n := w.count("get v1alpha1.PodCheckpoint"); n != tc.reads {
				t.Errorf("%d checkpoints were read, want %d", n, tc.reads)
			}
		})
	}
}
