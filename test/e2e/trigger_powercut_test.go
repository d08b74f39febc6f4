// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

const (
	// interval is that of the pods' checkpoints, the shortest that there is.
	interval = time.Minute
	// savedWithin bounds the time from a pod's start to its first checkpoint of a schedule.
	savedWithin = interval + moveTimeout
	// collected bounds the time from a Node's deletion to that of its pods: the garbage collector waits for 40 s, and looks
	// every 20 s.
	collected = 3 * time.Minute
)

// testPowerCut kills a node with two pods that are saved every minute. An administrator then gives one of them up by the taint
// out-of-service, which the other one tolerates, and that one by deleting the Node.
func testPowerCut(t *testing.T) {
	tainted, collected := newScene(t, "outofservice", nil, "main"), newScene(t, "collected", nil, "main")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := testbed.Revive(ctx, mortal); err != nil {
			t.Error(err)
		}
	})
	taint := corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}
	tainted.create(tainted.Deployment(tainted.name, tainted.scheduled()))
	patient := collected.scheduled()
	patient.Spec.Tolerations = append(patient.Spec.Tolerations, corev1.Toleration{
		Key: taint.Key, Operator: corev1.TolerationOpExists, Effect: taint.Effect,
	})
	collected.create(collected.Deployment(collected.name, patient))
	before := map[*scene]*corev1.Pod{tainted: tainted.settleOn(mortal), collected: collected.settleOn(mortal)}
	for s, pod := range before {
		s.checkSaved(pod)
	}
	killed := kill(t)
	tainted.taint(mortal, taint.Key, taint.Effect)
	tainted.checkRewound(before[tainted], killed)
	if err := testbed.Client.Delete(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: mortal}}); err != nil {
		t.Fatal(err)
	}
	collected.checkRewound(before[collected], killed)
}

// scheduled is one Stepper that is saved every minute, in a pod that starts on mortal.
func (s *scene) scheduled() corev1.PodTemplateSpec {
	template := s.reserved(mortal)
	template.Annotations[v1alpha1.AnnotationInterval] = interval.String()
	return template
}

// checkSaved waits for a checkpoint of the schedule, and fails the test unless the pod has gone on as if nothing had happened.
func (s *scene) checkSaved(pod *corev1.Pod) {
	s.t.Helper()
	saved := s.untilCheckpoint(pod, savedWithin, func(c v1alpha1.PodCheckpoint) bool { return c.Status.Phase == v1alpha1.PhaseReady })
	if saved.Spec.Reason != v1alpha1.ReasonSchedule || saved.Spec.Fence {
		s.t.Errorf("PodCheckpoint %q has reason %s and fence %v", saved.Name, saved.Spec.Reason, saved.Spec.Fence)
	}
	ctx, cancel := s.within(moveTimeout)
	defer cancel()
	later := time.Now().Add(2 * time.Second)
	verdict := recorder.Check(s.wait(ctx, "main", func(all []recorder.Entry) bool { return all[len(all)-1].Time.After(later) }))
	if err := verdict.Err(); err != nil || len(verdict.Moves) > 0 {
		s.t.Errorf("after a checkpoint of the schedule: %v, moves %+v", err, verdict.Moves)
	}
}

// kill cuts mortal's power and returns when, once the API server has noticed.
func kill(t *testing.T) time.Time {
	t.Helper()
	node, err := testbed.Cluster.Node(mortal)
	if err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	if err := node.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), moveTimeout)
	defer cancel()
	(&scene{t: t}).until(ctx, func() error {
		if ready, err := testbed.Ready(ctx, mortal); err != nil || ready {
			return fmt.Errorf("node %q is ready: %v (%w)", mortal, ready, err)
		}
		return nil
	})
	t.Logf("%s killed; noticed %.1f s later", mortal, time.Since(killed).Seconds())
	return killed
}

// checkRewound fails the test unless the pod carries on elsewhere from a checkpoint that is at most an interval old: steps of that time
// are done again, and none is left out.
func (s *scene) checkRewound(before *corev1.Pod, killed time.Time) {
	s.t.Helper()
	after := s.replaced(before, collected)
	ctx, cancel := s.within(moveTimeout)
	defer cancel()
	entries := s.wait(ctx, "main", carriedOn(after.Status.PodIP))
	verdict := recorder.Check(entries)
	if len(verdict.Lost)+len(verdict.Faults)+len(verdict.Overlaps) > 0 || len(verdict.Moves) != 1 {
		s.t.Fatalf("the killed pod: %v, %d moves", verdict.Err(), len(verdict.Moves))
	}
	first := verdict.Moves[0].First.Step
	if first == 1 {
		s.t.Fatal("the killed pod's replacement began at step 1, want a restore")
	}
	lost := killed.Sub(doneAt(entries, first-1))
	s.t.Logf("the killed pod had done step %d; its replacement goes on with step %d, %.1f s of work are done again",
		verdict.Moves[0].Last.Step, first, lost.Seconds())
	// What the dump takes, and what a busy machine adds.
	const slack = 15 * time.Second
	if lost > interval+slack {
		s.t.Errorf("%v of work were lost, want one interval of %v at most", lost, interval)
	}
	s.checkRestored(after)
	event := s.event("Restored")
	s.t.Logf("event %s: %s", event.Reason, event.Message)
}

// doneAt is when a step was first recorded.
func doneAt(entries []recorder.Entry, step int64) time.Time {
	for _, e := range entries {
		if e.Step == step && e.Fault == "" {
			return e.Time
		}
	}
	return time.Time{}
}
