// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/admission"
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

// TestEvictionsTakeTurns evicts many pods at once: only so many are worked on at a time, and one that is held keeps nobody out.
func TestEvictionsTakeTurns(t *testing.T) {
	const pods = 100
	objects := []client.Object{canCheckpoint()}
	for i := range pods {
		objects = append(objects, running(func(p *corev1.Pod) {
			p.Name, p.UID = fmt.Sprintf("web-%d", i), types.UID(fmt.Sprintf("p%d", i))
			p.Annotations[v1alpha1.AnnotationDeadline] = "30s"
		}))
	}
	bubble(t, func(t *testing.T, w *world) {
		var mu sync.Mutex
		var reading, most int
		w.before = func(_ string, obj client.Object) error {
			if _, is := obj.(*corev1.Pod); !is {
				return nil
			}
			mu.Lock()
			reading++
			most = max(most, reading)
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			reading--
			mu.Unlock()
			return nil
		}
		w.options.MaxHolds, w.options.PickupTimeout = pods, time.Minute
		h := w.evictions()
		var group sync.WaitGroup
		began := time.Now()
		for i := range pods {
			group.Go(func() {
				ev := eviction()
				ev.Name = fmt.Sprintf("web-%d", i)
				if got := w.evictWith(t.Context(), h, ev, false); got.Allowed || time.Since(began) < admission.DefaultHold {
					t.Errorf("the eviction of %s was answered after %s: %+v, want 429 when it was held for %s", ev.Name, time.Since(began), got.Result, admission.DefaultHold)
				}
			})
		}
		group.Wait()
		if took := time.Since(began); took > admission.DefaultHold+time.Second {
			t.Errorf("the last was answered after %s", took)
		}
		if n := len(w.checkpoints()); n != pods {
			t.Errorf("%d checkpoints were begun, want %d", n, pods)
		}
		if most != 32 {
			t.Errorf("%d evictions were worked on at the same time, want 32", most)
		}
	}, objects...)
}
