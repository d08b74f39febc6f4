// SPDX-License-Identifier: Apache-2.0

package retention_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/retention"
	"github.com/cryopod/cryopod/pkg/image"
)

var shop = reconcile.Request{NamespacedName: client.ObjectKey{Name: "shop"}}

func (w *world) reconciler(policy retention.Policy) *retention.Reconciler {
	return &retention.Reconciler{Client: w.client, Events: w.events, Clock: w.clock, Images: w.images, Policy: policy}
}

var hourly = retention.Policy{Count: 3, Age: time.Hour}

func TestReconcile(t *testing.T) {
	restored := func(name string, change ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
		return ptrTo(checkpoint(name, v1alpha1.PhaseRestored, 0, change...))
	}
	elsewhere := func(pc *v1alpha1.PodCheckpoint) { pc.Status.Containers[0].ImageTag = "reg.test/production/shop:v1" }
	type outcome struct {
		Checkpoints, Images, Removed, Events []string
	}
	all := []client.Object{namespace("shop", nil), restored("a"), restored("b")}
	for name, tc := range map[string]struct {
		objects    []client.Object
		policy     retention.Policy
		noRegistry bool
		refusal    error
		failure    error
		after      time.Duration
		want       outcome
		fails      bool
	}{
		"images first, the objects stay": {
			objects: all, policy: hourly, after: 10 * time.Minute,
			want: outcome{Checkpoints: []string{"a", "b"}, Removed: []string{"a", "b"}},
		},
		"all of it": {
			objects: all, policy: hourly, after: time.Hour,
		},
		"not yet": {
			objects: all, policy: hourly, after: time.Second,
			want: outcome{Checkpoints: []string{"a", "b"}, Images: []string{"reg.test/x/shop:a.app", "reg.test/x/shop:b.app"}},
		},
		"the registry is away": {
			objects: append(all, restored("c", neverPushed)), policy: hourly, after: 2 * time.Hour, failure: errAway, fails: true,
			want: outcome{
				Checkpoints: []string{"a", "b"}, Images: []string{"reg.test/x/shop:a.app", "reg.test/x/shop:b.app"},
				Events: []string{
					"Warning CheckpointImagesLeft on a: The registry did not delete the images (connection refused); " +
						"it will be asked again, and the PodCheckpoint stays until then",
					"Warning CheckpointImagesLeft on b: The registry did not delete the images (connection refused); " +
						"it will be asked again, and the PodCheckpoint stays until then",
				},
			},
		},
		"the registry does not delete": {
			objects: all, policy: hourly, after: time.Hour, refusal: image.ErrDeleteUnsupported,
			want: outcome{
				Images: []string{"reg.test/x/shop:a.app", "reg.test/x/shop:b.app"},
				Events: []string{`Warning RegistryRefusesDeletion on cryopod-webhook: The registry of "reg.test/x" does not delete images (for distribution: ` +
					"storage.delete.enabled); checkpoints stay there until it removes them by a retention policy of its own"},
			},
		},
		"the credentials do not suffice": {
			objects: all, policy: hourly, after: 10 * time.Minute, refusal: image.ErrDeleteDenied,
			want: outcome{
				Checkpoints: []string{"a", "b"}, Images: []string{"reg.test/x/shop:a.app", "reg.test/x/shop:b.app"},
				Events: []string{`Warning RegistryRefusesDeletion on cryopod-webhook: The registry of "reg.test/x" does not let these credentials delete ` +
					"images; checkpoints stay there until it removes them by a retention policy of its own"},
			},
		},
		"no registry": {
			objects: all, policy: hourly, after: time.Hour, noRegistry: true,
			want: outcome{Images: []string{"reg.test/x/shop:a.app", "reg.test/x/shop:b.app"}},
		},
		"no registry, and not old": {
			objects: all, policy: retention.Policy{Count: 3, Age: time.Hour, Bytes: 1}, after: 10 * time.Minute, noRegistry: true,
			want: outcome{Checkpoints: []string{"a", "b"}, Images: []string{"reg.test/x/shop:a.app", "reg.test/x/shop:b.app"}},
		},
		"an image that is not the checkpoint's": {
			objects: []client.Object{namespace("shop", nil), restored("a", elsewhere)}, policy: hourly, after: time.Hour,
			want: outcome{Images: []string{"reg.test/x/shop:a.app"}},
		},
		"the namespace's own policy": {
			objects: []client.Object{
				namespace("shop", map[string]string{v1alpha1.AnnotationRetentionAge: "5m", v1alpha1.AnnotationRetentionCount: "x"}), restored("a"),
			},
			policy: hourly, after: 10 * time.Minute,
			want: outcome{Events: []string{
				`Warning InvalidRetention on shop: checkpoint.io/retention-count="x" is not a whole number of 0 (no bound) or more; the cluster's default counts`,
			}},
		},
		"too large": {
			objects: all, policy: retention.Policy{Count: 3, Age: time.Hour, Bytes: 15 * mega, KeepImages: true}, after: time.Second,
			want: outcome{
				Checkpoints: []string{"a", "b"}, Images: []string{"reg.test/x/shop:b.app"}, Removed: []string{"a"},
				Events: []string{`Normal CheckpointImagesRemoved on cart: The checkpoint images of namespace "shop" are larger than it may have; ` +
					`those of pod "pod-of-a", which is over (Restored), were deleted`},
			},
		},
		"a namespace that is gone": {
			objects: []client.Object{restored("a")}, policy: hourly, after: time.Hour,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.objects...)
			w.registry.failure, w.registry.refusal = tc.failure, tc.refusal
			w.clock.Step(tc.after)
			r := w.reconciler(tc.policy)
			if tc.noRegistry {
				r.Images = nil
			}
			// What was done is not done again, and what was said is not said again.
			for range 2 {
				if _, err := r.Reconcile(t.Context(), shop); (err != nil) != tc.fails {
					t.Fatalf("Reconcile = %v, want an error: %v", err, tc.fails)
				}
				if tc.fails {
					break
				}
			}
			got := outcome{Checkpoints: w.names(t), Images: w.left(), Removed: w.removed(t), Events: w.events.Lines()}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

// removed are the PodCheckpoints that tell that their images are gone.
func (w *world) removed(t *testing.T) []string {
	t.Helper()
	var all v1alpha1.PodCheckpointList
	if err := w.client.List(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range all.Items {
		if meta.IsStatusConditionTrue(all.Items[i].Status.Conditions, v1alpha1.ConditionImagesRemoved) {
			names = append(names, all.Items[i].Name)
		}
	}
	return names
}

// TestImagesGoFirst looks at what is there while the registry deletes.
func TestImagesGoFirst(t *testing.T) {
	w := newWorld(t, namespace("shop", nil), ptrTo(checkpoint("a", v1alpha1.PhaseRestored, 0)))
	w.clock.Step(time.Hour)
	w.registry.before = func() {
		if diff := cmp.Diff([]string{"a"}, w.names(t)); diff != "" {
			t.Errorf("PodCheckpoints while the images are deleted (-want +got):\n%s", diff)
		}
	}
	if _, err := w.reconciler(hourly).Reconcile(t.Context(), shop); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"reg.test/x/shop:a.app"}, w.registry.deleted); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
}

// TestChangedMeanwhile has the PodCheckpoint change after it was decided on.
func TestChangedMeanwhile(t *testing.T) {
	pc := ptrTo(checkpoint("a", v1alpha1.PhaseRestored, 0))
	w := newWorld(t, namespace("shop", nil), pc)
	w.clock.Step(time.Hour)
	w.registry.before = func() {
		live := &v1alpha1.PodCheckpoint{}
		if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(pc), live); err != nil {
			t.Fatal(err)
		}
		live.Labels = map[string]string{"changed": "true"}
		if err := w.client.Update(t.Context(), live); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.reconciler(hourly).Reconcile(t.Context(), shop); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a"}, w.names(t)); diff != "" {
		t.Errorf("PodCheckpoints (-want +got):\n%s", diff)
	}
}

// TestRefusalIsNotForGood asks the registry again after an hour, and tells again only of another refusal.
func TestRefusalIsNotForGood(t *testing.T) {
	w := newWorld(t, namespace("shop", nil), ptrTo(checkpoint("a", v1alpha1.PhaseRestored, 0)))
	r := w.reconciler(retention.Policy{Age: 24 * time.Hour})
	for _, step := range []struct {
		after   time.Duration
		refusal error
		events  int
		images  int
	}{
		{after: 2 * time.Minute, refusal: image.ErrDeleteUnsupported, events: 1, images: 1},
		{after: time.Minute, events: 1, images: 1},
		{after: time.Hour, refusal: image.ErrDeleteUnsupported, events: 1, images: 1},
		{after: time.Hour, refusal: image.ErrDeleteDenied, events: 2, images: 1},
		{after: time.Hour, events: 2},
	} {
		w.clock.Step(step.after)
		w.registry.refusal = step.refusal
		if _, err := r.Reconcile(t.Context(), shop); err != nil {
			t.Fatal(err)
		}
		if events, images := len(w.events.Lines()), len(w.left()); events != step.events || images != step.images {
			t.Errorf("at %s: %d events and %d images, want %d and %d", w.clock.Since(start), events, images, step.events, step.images)
		}
	}
}

// TestPatience asks a registry that is away three times, and no oftener, and lets one stubborn image hold nothing up.
func TestPatience(t *testing.T) {
	objects := []client.Object{namespace("shop", nil)}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		objects = append(objects, ptrTo(checkpoint(name, v1alpha1.PhaseRestored, 0)))
	}
	w := newWorld(t, objects...)
	w.clock.Step(time.Hour)
	asked := 0
	w.registry.before = func() { asked++ }
	w.registry.failure = errAway
	if _, err := w.reconciler(hourly).Reconcile(t.Context(), shop); err == nil || asked != 3 {
		t.Errorf("asked %d times (%v), want 3 and an error", asked, err)
	}
	asked = 0
	w.registry.before = func() {
		asked++
		w.registry.failure = nil
		if asked == 2 {
			w.registry.failure = errAway
		}
	}
	if _, err := w.reconciler(hourly).Reconcile(t.Context(), shop); err == nil {
		t.Error("no error for one that is left")
	}
	if diff := cmp.Diff([]string{"b"}, w.names(t)); diff != "" {
		t.Errorf("PodCheckpoints (-want +got):\n%s", diff)
	}
}

// TestLives asks whether the very pod of a scheduled checkpoint is there.
func TestLives(t *testing.T) {
	for name, tc := range map[string]struct {
		pods []client.Object
		want []string
	}{
		"it is":                {pods: []client.Object{podOf("pod-of-a", "uid-of-a")}, want: []string{"a"}},
		"it is gone":           {},
		"another has its name": {pods: []client.Object{podOf("pod-of-a", "new")}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, append(tc.pods, namespace("shop", nil), ptrTo(checkpoint("a", v1alpha1.PhaseFailed, 0, scheduled)))...)
			w.clock.Step(48 * time.Hour)
			if _, err := w.reconciler(hourly).Reconcile(t.Context(), shop); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, w.names(t)); diff != "" {
				t.Errorf("PodCheckpoints (-want +got):\n%s", diff)
			}
		})
	}
}
