// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/object"
)

const (
	// nodes is how many the cluster has: those of common, the next two, and those of shaken.
	nodes = 6
	// doomed is the node whose pods are driven off, mortal the one that is killed. Both are reserved, and so are those of shaken: what
	// strikes a whole node disturbs no other scene.
	doomed = "node-3"
	mortal = "node-4"

	// everything has a pod saved whatever makes it go.
	everything = "eviction,termination,preemption,delete"
)

// TestTriggers has pods go in every way but an eviction, each by its real actor.
func TestTriggers(t *testing.T) {
	t.Parallel()
	inBackground(t, "powercut", testPowerCut)
	inBackground(t, "doomed", testDoomed)
	for name, run := range map[string]func(*testing.T){
		"disable-eviction": testDisableEviction,
		"delete":           testDelete,
		"delete-as-asked":  testDeleteAsAsked,
		"force":            testForceDelete,
		"namespace":        testNamespaceDeletion,
		"rollout":          testRollout,
		"scale-down":       testScaleDown,
		"job-completion":   testJobCompletion,
	} {
		inParallel(t, name, run)
	}
}

// testDoomed has one scene after the other have doomed to itself.
func testDoomed(t *testing.T) {
	for name, run := range map[string]func(*testing.T){
		"spot":               testTaint("aws-node-termination-handler/spot-itn", corev1.TaintEffectNoSchedule),
		"impending":          testTaint("cloud.google.com/impending-node-termination", corev1.TaintEffectNoExecute),
		"withdrawn":          testTaintWithdrawn,
		"notime":             testNoTime,
		"taintmanager":       testTaintManager,
		"preemption":         testPreemption(corev1.DefaultSchedulerName),
		"preempted-and-back": testPreemptedAndBack,
	} {
		t.Run(name, run)
	}
}

// reserved is one Stepper in a pod that starts on a reserved node.
func (s *scene) reserved(node string, args ...string) corev1.PodTemplateSpec {
	return object.Reserved(s.Template(s.name, s.Stepper(s.name, "main", args...)), node)
}

func (s *scene) settleOn(node string) *corev1.Pod {
	s.t.Helper()
	pod := s.settle()
	if pod.Spec.NodeName != node {
		s.t.Fatalf("pod %q runs on %q, want %q, which is kept for it", pod.Name, pod.Spec.NodeName, node)
	}
	return pod
}

// taint puts a taint on a node until the test ends.
func (s *scene) taint(node, key string, effect corev1.TaintEffect) {
	s.t.Helper()
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		if err := testbed.Untaint(ctx, node, key); err != nil {
			s.t.Error(err)
		}
	})
	if err := testbed.Kubectl.Taint(s.t.Context(), node, key+"=:"+string(effect)); err != nil {
		s.t.Fatal(err)
	}
}

// checkLeft fails the test unless the pod carries on as after, away from the node where it was.
func (s *scene) checkLeft(before, after *corev1.Pod) {
	s.t.Helper()
	if after.Spec.NodeName == before.Spec.NodeName {
		s.t.Errorf("pod %q runs on %q, from which %q had to go", after.Name, after.Spec.NodeName, before.Name)
	}
	s.checkMoved(before, after, 1)
}

// checkReason fails the test unless the pod was saved once, and for that reason.
func (s *scene) checkReason(pod *corev1.Pod, want v1alpha1.Reason) {
	s.t.Helper()
	if c := s.checkpoint(pod, v1alpha1.PhaseRestored); c.Spec.Reason != want {
		s.t.Errorf("PodCheckpoint %q has reason %s, want %s", c.Name, c.Spec.Reason, want)
	}
}

// until waits until holds has no error.
func (s *scene) until(ctx context.Context, holds func() error) {
	s.t.Helper()
	if err := bed.Until(ctx, func(context.Context) error { return holds() }); err != nil {
		s.t.Fatal(err)
	}
}

// untilCheckpoint waits for a PodCheckpoint of the pod for which holds is true.
func (s *scene) untilCheckpoint(pod *corev1.Pod, within time.Duration, holds func(v1alpha1.PodCheckpoint) bool) v1alpha1.PodCheckpoint {
	s.t.Helper()
	ctx, cancel := s.within(within)
	defer cancel()
	var found v1alpha1.PodCheckpoint
	s.until(ctx, func() error {
		all, err := testbed.Checkpoints(ctx, s.Namespace, pod.UID)
		if err != nil {
			return err
		}
		var seen []string
		for _, found = range all {
			if holds(found) {
				return nil
			}
			seen = append(seen, fmt.Sprintf("%q is %s (%s)", found.Name, found.Status.Phase, found.Status.Message))
		}
		return fmt.Errorf("pod %q has %d PodCheckpoints: %v", pod.Name, len(all), seen)
	})
	return found
}

func (s *scene) nodeObject(name string) *corev1.Node {
	s.t.Helper()
	var node corev1.Node
	if err := testbed.Client.Get(s.t.Context(), client.ObjectKey{Name: name}, &node); err != nil {
		s.t.Fatal(err)
	}
	return &node
}
