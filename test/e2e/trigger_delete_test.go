// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

// promptly is how soon a deletion that is none of Cryopod's business is over, on a busy machine; one that is held takes no less.
const promptly = 20 * time.Second

// on is one Stepper in a pod that is to be saved for those triggers.
func (s *scene) on(triggers string) corev1.PodTemplateSpec {
	template := s.Template(s.name, s.Stepper(s.name, "main"))
	template.Annotations[v1alpha1.AnnotationOn] = triggers
	return template
}

// deletePod runs kubectl delete and returns how long it took.
func (s *scene) deletePod(pod *corev1.Pod, flags ...string) time.Duration {
	s.t.Helper()
	ctx, cancel := s.within(drainTimeout)
	defer cancel()
	begun := time.Now()
	_, err := testbed.Kubectl.Run(ctx, append([]string{"delete", "pod", pod.Name, "-n", pod.Namespace}, flags...)...)
	if err != nil && !putOff(err) {
		s.t.Fatal(err)
	}
	took := time.Since(begun)
	s.t.Logf("kubectl delete pod %s took %.1f s", pod.Name, took.Seconds())
	return took
}

// putOff reports whether a pod is deleted by Cryopod as soon as it is saved: a busy machine may take longer for that than a hold.
func putOff(err error) bool {
	return strings.Contains(err.Error(), "it is deleted as soon as it is saved")
}

// testDisableEviction drains a node by plain deletions.
func testDisableEviction(t *testing.T) {
	s := newScene(t, "disable-eviction", nil, "main")
	s.create(s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main"))))
	before := s.settle()
	after := s.drainBy(before, kubectl.Drain{DisableEviction: true})
	s.checkLeft(before, after)
}

// testDelete deletes a pod that says nothing of deletions: that is what its user wants, and it starts cold.
func testDelete(t *testing.T) {
	s := newScene(t, "delete", nil, "main")
	s.create(s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main"))))
	before := s.settle()
	var took time.Duration
	s.whileOpen(before, func() { took = s.deletePod(before) })
	if took > promptly {
		t.Errorf("the deletion took %v", took)
	}
	s.checkCold(before, s.replaced(before, moveTimeout))
	s.noCheckpoint()
}

// testDeleteAsAsked deletes a pod that wants to go on all the same.
func testDeleteAsAsked(t *testing.T) {
	s := newScene(t, "deleted", nil, "main")
	s.create(s.Deployment(s.name, s.on(everything)))
	before := s.settle()
	s.whileOpen(before, func() { s.deletePod(before) })
	after := s.replaced(before, moveTimeout)
	s.checkMoved(before, after, 1)
	s.checkReason(before, v1alpha1.ReasonDeletion)
}

// testForceDelete takes a pod's object away at once: nobody may hold that, whatever the pod wants.
func testForceDelete(t *testing.T) {
	s := newScene(t, "force", nil, "main")
	s.create(s.Deployment(s.name, s.on(everything)))
	before := s.settle()
	var took time.Duration
	s.whileOpen(before, func() { took = s.deletePod(before, "--force", "--grace-period=0") })
	if took > promptly {
		t.Errorf("the forced deletion took %v", took)
	}
	after := s.replaced(before, moveTimeout)
	if from := after.Annotations[v1alpha1.AnnotationRestoreFrom]; from != "" {
		t.Errorf("pod %q is restored from %q, want a cold start", after.Name, from)
	}
	s.noCheckpoint()
}

// testNamespaceDeletion removes a namespace with a pod that wants to go on in all cases.
func testNamespaceDeletion(t *testing.T) {
	s := newScene(t, "namespace", nil, "main")
	s.create(s.Deployment(s.name, s.on(everything)))
	pod := s.settle()
	begun := time.Now()
	ctx, cancel := s.within(drainTimeout)
	defer cancel()
	if err := testbed.RemoveNamespace(ctx, s.Namespace); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 2*promptly {
		t.Errorf("the namespace was gone after %v", took)
	}
	entries := s.wait(ctx, "main", recorder.Reached(1))
	if last := entries[len(entries)-1]; last.Time.Sub(begun) > promptly || last.Peer != pod.Status.PodIP {
		t.Errorf("the pod did its last step %v after the deletion began, from %s", last.Time.Sub(begun), last.Peer)
	}
}
