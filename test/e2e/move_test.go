// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

// TestEvacuation drains nodes of pods: those that can be saved carry on, those that can't start cold and say why, and those that
// are none of Cryopod's business are let alone.
func TestEvacuation(t *testing.T) {
	t.Parallel()
	for name, c := range movable {
		run := inParallel
		if c.then != nil {
			run = inBackground
		}
		run(t, name, func(t *testing.T) { testMovable(t, name, c) })
	}
	inParallel(t, "twice", testTwice)
	inParallel(t, "prefetch", testPrefetch)
	for name, c := range immovable {
		inParallel(t, name, func(t *testing.T) { testImmovable(t, name, c) })
	}
	inParallel(t, "excluded", testExcluded)
	inParallel(t, "budget", testBudget)
}

func testMovable(t *testing.T, name string, c moveCase) {
	s := newScene(t, name, nil, c.containers...)
	s.create(c.objects(s)...)
	before := s.settle()
	after := s.drain(before)
	s.checkMoved(before, after, 1)
	if c.then != nil {
		c.then(s)
	}
}

// testTwice drains the replacement of a drained pod: it must carry on from the second checkpoint, not from the first.
func testTwice(t *testing.T) {
	s := newScene(t, "twice", nil, "main")
	s.create(s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main"))))
	first := s.settle()
	second := s.drain(first)
	s.checkMoved(first, second, 1)
	third := s.drain(second)
	s.checkMoved(second, third, 2)
	for _, c := range s.checkpoint(second, v1alpha1.PhaseRestored).Status.Containers {
		if c.BaseImage != s.Images.Stepper {
			t.Errorf("container %q of the second checkpoint has base image %q, want that of the owner, %q", c.Name, c.BaseImage, s.Images.Stepper)
		}
	}
}

// checkMoved fails the test unless the recorder saw the pod carry on as its replacement, in the last of so many moves, and the
// objects tell the same.
func (s *scene) checkMoved(before, after *corev1.Pod, moves int) {
	s.t.Helper()
	for _, c := range s.containers {
		ctx, cancel := s.within(moveTimeout)
		verdict := recorder.Check(s.wait(ctx, c, carriedOn(after.Status.PodIP)))
		cancel()
		if err := verdict.Err(); err != nil {
			s.t.Errorf("container %q: %v", c, err)
		}
		if len(verdict.Moves) != moves {
			s.t.Fatalf("container %q moved %d times, want %d: %+v", c, len(verdict.Moves), moves, verdict.Moves)
		}
		m := verdict.Moves[moves-1]
		if m.Last.Peer != before.Status.PodIP || m.First.Peer != after.Status.PodIP {
			s.t.Errorf("container %q: steps moved from %s to %s, want from %s to %s",
				c, m.Last.Peer, m.First.Peer, before.Status.PodIP, after.Status.PodIP)
		}
		s.t.Logf("container %q: step %d on %s, %.2f s later step %d on %s",
			c, m.Last.Step, m.Last.Node, m.Downtime().Seconds(), m.First.Step, m.First.Node)
	}
	s.checkRestored(after)
	checkpoint := s.checkpoint(before, v1alpha1.PhaseRestored)
	if claim := checkpoint.Status.Claim; claim == nil || claim.PodUID != after.UID {
		s.t.Errorf("PodCheckpoint %q has claim %+v, want one of pod %q", checkpoint.Name, claim, after.UID)
	}
	for _, c := range checkpoint.Status.Containers {
		if c.Bytes == 0 || c.PushedBytes == 0 || c.Image == "" || c.BaseImageDigest == "" {
			s.t.Errorf("PodCheckpoint %q tells too little of container %q: %+v", checkpoint.Name, c.Name, c)
		}
	}
	s.event("Restored")
}

// checkRestored fails the test unless every container of the pod runs from its checkpoint, in its first life, where Cryopod's own
// scheduler put it.
func (s *scene) checkRestored(pod *corev1.Pod) {
	s.t.Helper()
	var base map[string]string
	if err := json.Unmarshal([]byte(pod.Annotations[v1alpha1.AnnotationBaseImages]), &base); err != nil {
		s.t.Errorf("pod %q has annotation %s=%q: %v", pod.Name, v1alpha1.AnnotationBaseImages, pod.Annotations[v1alpha1.AnnotationBaseImages], err)
	}
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		if image, ok := base[c.Name]; !ok || image == c.Image {
			s.t.Errorf("container %q of pod %q runs from %q, its owner's image is %q", c.Name, pod.Name, c.Image, image)
		}
	}
	for _, c := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		if c.RestartCount != 0 {
			s.t.Errorf("container %q of pod %q was restarted %d times", c.Name, pod.Name, c.RestartCount)
		}
	}
	if pod.Spec.SchedulerName != v1alpha1.SchedulerName {
		s.t.Errorf("pod %q has scheduler %q, want %q", pod.Name, pod.Spec.SchedulerName, v1alpha1.SchedulerName)
	}
	if why := pod.Annotations[v1alpha1.AnnotationFellBack]; why != "" {
		s.t.Errorf("pod %q fell back to a cold start: %s", pod.Name, why)
	}
}
