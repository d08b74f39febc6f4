// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	lifecyclev1alpha1 "k8s.io/api/lifecycle/v1alpha1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/evictioncontroller"
	"github.com/cryopod/cryopod/test/e2e/install"
	"github.com/cryopod/cryopod/test/e2e/object"
)

// TestEvictionRequests asks for pods' evictions by KEP-4563. It restarts the webhook, with the responder, hence no other test runs
// beside it.
func TestEvictionRequests(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	installer := install.Installer{Cluster: testbed.Cluster, Client: testbed.Client, Progress: os.Stderr}
	remove, err := installer.Add(ctx, "eviction-requests")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := remove(ctx); err != nil {
			t.Error(err)
		}
	})
	inBackground(t, "moves", testRequestMoves)
	inBackground(t, "budget", testRequestBudget)
}

// testRequestMoves asks for the eviction of a pod: Cryopod saves it and sends it away in its turn.
func testRequestMoves(t *testing.T) {
	s := newScene(t, "request", nil, "main")
	s.create(s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main"))))
	before := s.settle()
	s.requestEviction(before)
	after := s.replaced(before, moveTimeout)
	s.checkMoved(before, after, 1)
	s.checkReason(before, v1alpha1.ReasonEviction)

	ev := s.eviction(before, func(ev *lifecyclev1alpha1.Eviction) error {
		if !meta.IsStatusConditionTrue(ev.Status.Conditions, string(lifecyclev1alpha1.EvictionConditionTargetEvicted)) {
			return fmt.Errorf("Eviction %q has conditions %v", ev.Name, ev.Status.Conditions)
		}
		return nil
	})
	ours := responder(ev, v1alpha1.EvictionResponder)
	if ours.HeartbeatTime == nil || ours.ExpectedCompletionTime == nil || ours.CompletionTime == nil ||
		ptr.Deref(ours.Message, "") != "the pod was evicted" {
		t.Errorf("the responder left %+v", ours)
	}
	t.Logf("the turn took from %v to %v", ours.StartTime, ours.CompletionTime)
}

// testRequestBudget asks for the eviction of a pod whose budget refuses: it is not frozen, and the next responder gets its turn.
func testRequestBudget(t *testing.T) {
	s := newScene(t, "requestbudget", nil, "main")
	s.create(
		s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main"))),
		&policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.name},
			Spec: policyv1.PodDisruptionBudgetSpec{
				MinAvailable: ptr.To(intstr.FromInt32(1)),
				Selector:     &metav1.LabelSelector{MatchLabels: map[string]string{object.LabelApp: s.name}},
			},
		},
	)
	pod := s.settle()
	s.budgetSeen()
	s.requestEviction(pod)
	ev := s.eviction(pod, func(ev *lifecyclev1alpha1.Eviction) error {
		if last := len(ev.Status.TargetResponders) - 1; last < 0 || ev.Status.TargetResponders[last].State != lifecyclev1alpha1.ResponderStateActive {
			return fmt.Errorf("Eviction %q has responders %v, want the turn to be the last one's", ev.Name, ev.Status.TargetResponders)
		}
		return nil
	})
	if m := ptr.Deref(responder(ev, v1alpha1.EvictionResponder).Message, ""); !strings.Contains(m, "disruption budget") {
		t.Errorf("the responder said %q, want the budget's refusal", m)
	}
	s.noCheckpoint()
	s.event("EvictionHandedOver")
}

// requestEviction makes an EvictionRequest as a user does, after a look at the pod's responders.
func (s *scene) requestEviction(pod *corev1.Pod) {
	s.t.Helper()
	ours := corev1.EvictionResponder{Name: v1alpha1.EvictionResponder, Priority: ptr.To[int32](v1alpha1.EvictionResponderPriority)}
	if !slices.ContainsFunc(pod.Spec.EvictionResponders, func(r corev1.EvictionResponder) bool {
		return r.Name == ours.Name && *r.Priority == *ours.Priority
	}) {
		s.t.Errorf("pod %q has responders %v, want Cryopod's", pod.Name, pod.Spec.EvictionResponders)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		evictioncontroller.Run(ctx, testbed.Client, s.Namespace, func(err error) { s.t.Error(err) })
	}()
	s.t.Cleanup(func() { cancel(); <-done })
	s.create(&lifecyclev1alpha1.EvictionRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "away"},
		Spec: lifecyclev1alpha1.EvictionRequestSpec{
			Requester: "example.com/admin", Intent: lifecyclev1alpha1.EvictionRequestIntentEviction,
			Target: lifecyclev1alpha1.EvictionRequestTarget{Pod: &lifecyclev1alpha1.EvictionRequestPodReference{Name: pod.Name, UID: pod.UID}},
		},
	})
}

// eviction is the pod's Eviction once it is as wanted.
func (s *scene) eviction(pod *corev1.Pod, wanted func(*lifecyclev1alpha1.Eviction) error) *lifecyclev1alpha1.Eviction {
	s.t.Helper()
	ctx, cancel := s.within(moveTimeout)
	defer cancel()
	var found *lifecyclev1alpha1.Eviction
	s.until(ctx, func() error {
		var all lifecyclev1alpha1.EvictionList
		if err := testbed.Client.List(ctx, &all, client.InNamespace(s.Namespace)); err != nil {
			return err
		}
		for i := range all.Items {
			if all.Items[i].Spec.Target.Pod.UID == pod.UID {
				found = &all.Items[i]
				return wanted(found)
			}
		}
		return errors.New("the pod has no Eviction")
	})
	return found
}

func responder(ev *lifecyclev1alpha1.Eviction, name string) lifecyclev1alpha1.ResponderStatus {
	for _, r := range ev.Status.Responders {
		if r.Name == name {
			return r
		}
	}
	return lifecyclev1alpha1.ResponderStatus{}
}
