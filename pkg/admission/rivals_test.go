// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// rival is a checkpoint of another pod of running()'s owner, made now.
func rival(phase v1alpha1.Phase, changes ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
	pc := attempt(1, phase, 0, func(pc *v1alpha1.PodCheckpoint) {
		pc.Name, pc.Spec.PodName, pc.Spec.PodUID = "a-rival-1", "web-1", "p2"
		pc.Labels[v1alpha1.LabelPodUID] = "p2"
		pc.CreationTimestamp = metav1.NewTime(time.Now())
		pc.Spec.Deadline = &metav1.Time{Time: time.Now().Add(2 * time.Minute)}
		if phase != "" {
			pc.Status.Enter(phase, "", time.Now())
		}
	})
	for _, change := range changes {
		change(pc)
	}
	return pc
}

// TestEvictionFreezesNoMoreThanTheBudgetAllows has a drain evict two pods of one budget at the same time.
func TestEvictionFreezesNoMoreThanTheBudgetAllows(t *testing.T) {
	one := budget(1, 3, 2)
	two := budget(2, 4, 2)
	unready := running(func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse })
	tests := map[string]struct {
		objects []client.Object
		rival   func() *v1alpha1.PodCheckpoint
		crowded bool
	}{
		"the other one is frozen":       {[]client.Object{running(), &one}, func() *v1alpha1.PodCheckpoint { return rival(v1alpha1.PhaseDumping) }, true},
		"the other one is about to be":  {[]client.Object{running(), &one}, func() *v1alpha1.PodCheckpoint { return rival("") }, true},
		"the other one is saved":        {[]client.Object{running(), &one}, func() *v1alpha1.PodCheckpoint { return rival(v1alpha1.PhaseReady) }, true},
		"the other one was evicted":     {[]client.Object{running(), &one}, func() *v1alpha1.PodCheckpoint { return rival(v1alpha1.PhaseClaimed) }, false},
		"the other one goes on":         {[]client.Object{running(), &one}, func() *v1alpha1.PodCheckpoint { return rival(v1alpha1.PhaseReleased) }, false},
		"the budget has room for both":  {[]client.Object{running(), &two}, func() *v1alpha1.PodCheckpoint { return rival(v1alpha1.PhaseDumping) }, false},
		"there is no budget":            {[]client.Object{running()}, func() *v1alpha1.PodCheckpoint { return rival(v1alpha1.PhaseDumping) }, false},
		"the budget does not count it":  {[]client.Object{unready, &one}, func() *v1alpha1.PodCheckpoint { return rival(v1alpha1.PhaseDumping) }, false},
		"it is a pod of another owner":  {[]client.Object{running(), &one}, func() *v1alpha1.PodCheckpoint { return rival(v1alpha1.PhaseDumping, ownedByOthers) }, false},
		"it was saved a long while ago": {[]client.Object{running(), &one}, func() *v1alpha1.PodCheckpoint { return rival(v1alpha1.PhaseReady, longReady) }, false},
	}
	for name, tc := range tests {
		for _, when := range []string{"before", "meanwhile"} {
			t.Run(name+", "+when, func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					add := func() {
						if err := w.api.Create(t.Context(), tc.rival()); err != nil {
							t.Error(err)
						}
					}
					if when == "before" {
						add()
					} else {
						w.before = func(verb string, _ client.Object) error {
							if verb == "create" {
								add()
							}
							return nil
						}
					}
					h := w.evictions()
					if !tc.crowded {
						w.held(t.Context(), h)
						return
					}
					got := w.evictWith(t.Context(), h, eviction(), false)
					if got.Allowed || got.Result.Code != http.StatusTooManyRequests || !strings.Contains(got.Result.Message, `PodDisruptionBudget "web"`) {
						t.Errorf("answer %+v, want 429 that names the budget", got.Result)
					}
					if pcs := w.checkpoints(); len(pcs) != 1 || pcs[0].Name != "a-rival-1" {
						t.Errorf("PodCheckpoints %v, want the rival's only", pcs)
					}
					if events := w.events.all(); len(events) != 0 {
						t.Errorf("events %v of a pod to which nothing happened", events)
					}
				}, append(tc.objects, canCheckpoint())...)
			})
		}
	}
}

func ownedByOthers(pc *v1alpha1.PodCheckpoint) { pc.Labels[v1alpha1.LabelOwnerUID] = "o2" }

func longReady(pc *v1alpha1.PodCheckpoint) {
	pc.Status.Timings[0].Time = metav1.NewMicroTime(time.Now().Add(-31 * time.Second))
}
