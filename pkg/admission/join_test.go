// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// TestBothGiveUp has a pod deleted while it is saved for an eviction, and both clients give up. The checkpoint says from then on that
// Cryopod ends the pod, by one write, which the agent may come between.
func TestBothGiveUp(t *testing.T) {
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "podcheckpoints"}, first, nil)
	for name, tc := range map[string]struct {
		conflicts int
		want      v1alpha1.Removal
	}{"alone": {0, v1alpha1.RemovalDelete}, "the agent writes": {2, v1alpha1.RemovalDelete}, "others write and write": {100, v1alpha1.RemovalNone}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				evicting, giveUp := context.WithCancel(t.Context())
				evicted := w.held(evicting, w.evictions())
				giveUp()
				<-evicted
				left := tc.conflicts
				w.before = func(verb string, _ client.Object) error {
					if verb == "update status" && left > 0 {
						left--
						return conflict
					}
					return nil
				}
				w.change(first, phaseTo(v1alpha1.PhaseDumping, ""))
				deleting, giveUp := context.WithCancel(t.Context())
				deleted := w.deleting(deleting, w.deletes(), byTaint())
				again := w.deleting(deleting, w.deletes(), byTaint())
				giveUp()
				<-deleted
				<-again
				pc := w.checkpoints()[0]
				if got := match.RemovalOf(&pc); got != tc.want || pc.Status.Phase != v1alpha1.PhaseDumping {
					t.Errorf("removal %s, phase %s", got, pc.Status.Phase)
				}
				if tc.conflicts == 0 && w.count("update status") != 1 {
					t.Errorf("%d writes, want 1", w.count("update status"))
				}
			}, running(), canCheckpoint())
		})
	}
}

// TestDeleteTellsThatItGoes looks at what one is told who deletes a pod that is saved for an eviction.
func TestDeleteTellsThatItGoes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		evicting, giveUp := context.WithCancel(t.Context())
		evicted := w.held(evicting, w.evictions())
		giveUp()
		<-evicted
		w.change(first, phaseTo(v1alpha1.PhaseDumping, ""))
		got := <-w.deleting(t.Context(), w.deletes(), byTaint())
		if got.Allowed || !strings.Contains(got.Result.Message, "it is deleted as soon as it is saved") {
			t.Errorf("answer %+v", got)
		}
	}, running(), canCheckpoint())
}

// TestColdIsToldOnce has the controllers evict a pod whose checkpoint failed: they tell why. Whoever else says so of himself is not believed.
func TestColdIsToldOnce(t *testing.T) {
	const webhook = "system:serviceaccount:cryopod-system:cryopod-webhook"
	for name, tc := range map[string]struct {
		user, told string
		events     bool
	}{"the controllers": {webhook, "true", false}, "other controllers of ours": {webhook, "", true}, "anybody": {"eve", "true", true}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				ev := eviction()
				ev.Annotations = map[string]string{v1alpha1.AnnotationTold: tc.told}
				failed := attempt(1, v1alpha1.PhaseFailed, time.Second)
				failed.CreationTimestamp.Time = time.Now()
				failed.Spec.Deadline.Time = time.Now().Add(time.Minute)
				if err := w.api.Create(t.Context(), failed); err != nil {
					t.Fatal(err)
				}
				got := admission.NewEviction(admission.NewKeeper(w.deps, w.options)).Handle(t.Context(), ctrladmission.Request{
					AdmissionRequest: admissionv1.AdmissionRequest{
						Namespace: "ns", Name: ev.Name, Object: raw(t, ev), UserInfo: authenticationv1.UserInfo{Username: tc.user},
					},
				})
				if !got.Allowed || (len(w.events.all()) > 0) != tc.events {
					t.Errorf("answer %+v, events %q", got, w.events.all())
				}
			}, running(), canCheckpoint())
		})
	}
}
