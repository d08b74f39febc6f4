// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

// testTaint announces a node's end. Its pod is saved and sent away by Cryopod alone: kubectl only puts the taint on, and the
// pod tolerates the NoExecute variant for longer than it may stay.
func testTaint(key string, effect corev1.TaintEffect) func(*testing.T) {
	return func(t *testing.T) {
		s := newScene(t, "taint", nil, "main")
		s.create(s.Deployment(s.name, s.reserved(doomed)))
		before := s.settleOn(doomed)
		if !slices.ContainsFunc(before.Spec.Tolerations, func(t corev1.Toleration) bool {
			return t.Key == key && t.Effect == corev1.TaintEffectNoExecute && t.TolerationSeconds != nil
		}) {
			t.Errorf("pod %q has tolerations %v, want a limited one of %s", before.Name, before.Spec.Tolerations, key)
		}
		begun := time.Now()
		s.taint(doomed, key, effect)
		s.checkNotice(doomed, true)
		after := s.replaced(before, moveTimeout)
		t.Logf("pod %q runs on %s %.1f s after the taint of %s", after.Name, after.Spec.NodeName, time.Since(begun).Seconds(), doomed)
		s.checkLeft(before, after)
		s.checkReason(before, v1alpha1.ReasonTermination)
		if err := testbed.Untaint(t.Context(), doomed, key); err != nil {
			t.Fatal(err)
		}
		s.checkNotice(doomed, false)
	}
}

// checkNotice fails the test unless the node comes to say whether its end is announced.
func (s *scene) checkNotice(node string, want bool) {
	s.t.Helper()
	ctx, cancel := s.within(toldTimeout)
	defer cancel()
	s.until(ctx, func() error {
		notice, got := s.nodeObject(node).Annotations[v1alpha1.AnnotationNotice]
		if got != want {
			return fmt.Errorf("node %q has annotation %s=%q, want one: %v", node, v1alpha1.AnnotationNotice, notice, want)
		}
		return nil
	})
}

// testTaintWithdrawn takes a taint off again while its pod is being saved: the pod goes on, here or there.
func testTaintWithdrawn(t *testing.T) {
	const key = "aws-node-termination-handler/spot-itn"
	s := newScene(t, "withdrawn", nil, "main")
	s.create(s.Deployment(s.name, s.reserved(doomed, "-memory=256")))
	before := s.settleOn(doomed)
	s.taint(doomed, key, corev1.TaintEffectNoSchedule)
	s.untilCheckpoint(before, toldTimeout, func(c v1alpha1.PodCheckpoint) bool {
		return c.Status.Phase != "" && c.Status.Phase != v1alpha1.PhasePending
	})
	if err := testbed.Untaint(t.Context(), doomed, key); err != nil {
		t.Fatal(err)
	}
	over := s.untilCheckpoint(before, moveTimeout, func(c v1alpha1.PodCheckpoint) bool { return c.Status.Phase.Final() })
	t.Logf("PodCheckpoint %q is %s: %s", over.Name, over.Status.Phase, over.Status.Message)
	if over.Status.Phase == v1alpha1.PhaseRestored {
		s.checkMoved(before, s.replaced(before, moveTimeout), 1)
		return
	}
	now, err := testbed.Pod(t.Context(), s.Namespace, s.name)
	if err != nil || now.UID != before.UID {
		t.Fatalf("pod %q was replaced, though its PodCheckpoint is %s: %v", before.Name, over.Status.Phase, err)
	}
	ctx, cancel := s.within(moveTimeout)
	defer cancel()
	thawed := time.Now()
	verdict := recorder.Check(s.wait(ctx, "main", func(all []recorder.Entry) bool { return all[len(all)-1].Time.After(thawed) }))
	if err := verdict.Err(); err != nil || len(verdict.Moves) > 0 {
		t.Errorf("the pod that stayed: %v, moves %+v", err, verdict.Moves)
	}
}

// testTaintManager has kube-controller-manager's taint manager delete a pod: by a taint that announces nothing to Cryopod.
func testTaintManager(t *testing.T) {
	s := newScene(t, "taintmanager", nil, "main")
	s.create(s.Deployment(s.name, s.reserved(doomed)))
	before := s.settleOn(doomed)
	s.taint(doomed, "example.com/maintenance", corev1.TaintEffectNoExecute)
	after := s.replaced(before, moveTimeout)
	s.checkLeft(before, after)
	s.checkReason(before, v1alpha1.ReasonTermination)
}

// testNoTime announces an end that comes too soon for a pod: it starts cold elsewhere at once, never having stood still, and the event
// says that there was no time.
func testNoTime(t *testing.T) {
	s := newScene(t, "notime", nil, "main")
	template := s.reserved(doomed, "-memory=384")
	template.Annotations[v1alpha1.AnnotationDeadline] = "3s"
	template.Annotations[v1alpha1.AnnotationInterval] = "1h"
	s.create(s.Deployment(s.name, template))
	before := s.settleOn(doomed)
	// No pod is given up on a guess: the node's rates have to be measured first, by what stands for a checkpoint of its schedule.
	s.create(match.NewCheckpoint(before, match.Request{Attempt: 1, Reason: v1alpha1.ReasonSchedule}))
	s.untilCheckpoint(before, moveTimeout, func(c v1alpha1.PodCheckpoint) bool { return c.Status.Phase == v1alpha1.PhaseReady })
	s.taint(doomed, "aws-node-termination-handler/spot-itn", corev1.TaintEffectNoSchedule)
	after := s.replaced(before, moveTimeout)
	s.checkCold(before, after)
	failed := s.untilCheckpoint(before, moveTimeout, func(c v1alpha1.PodCheckpoint) bool { return c.Status.Phase == v1alpha1.PhaseFailed })
	ready := meta.FindStatusCondition(failed.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Reason != v1alpha1.ReasonNoTime {
		t.Errorf("PodCheckpoint %q has condition %+v, want the reason %s", failed.Name, ready, v1alpha1.ReasonNoTime)
	}
	if at, ok := failed.Status.Entered(v1alpha1.PhaseFreezing); ok {
		t.Errorf("pod %q was frozen at %v", before.Name, at)
	}
	event := s.event("EvictedCold")
	t.Logf("event %s: %s", event.Reason, event.Message)
}
