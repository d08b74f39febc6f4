// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

// probedSteps is how many steps a replacement does before it counts as left alone by its probe: five times what the strictest allows.
const probedSteps = 300

// probeCase is a pod with a liveness probe, each second.
type probeCase struct {
	handler  corev1.ProbeHandler
	timeout  int32 // in seconds; 0: one
	failures int32
	args     []string
	// phase, reason and tells are those of the checkpoint, and of the event, of a pod that can't be saved between two failures; empty: it moves.
	phase         v1alpha1.Phase
	reason, tells string
}

// probePort is where the stepper answers them.
const probePort = 8081

var (
	httpProbe = corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(probePort)}}
	execProbe = corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/stepper", "-h"}}}
)

// strictlyProbed are those whose probes a busy machine would fail by itself. Each group has the machine to itself.
var strictlyProbed = []map[string]probeCase{
	{
		"strict": {handler: httpProbe, failures: 3},
		"stricter": {handler: httpProbe, failures: 1, phase: v1alpha1.PhaseFailed, reason: "CheckpointFailed",
			tells: "raise its failureThreshold"},
	},
	{
		// It takes longer to save than its probe is patient, and the agent can tell beforehand.
		"large": {handler: httpProbe, failures: 3, args: []string{"-memory=768"}, phase: v1alpha1.PhaseFailed, reason: "CheckpointFailed",
			tells: "would have restarted it at 3s"},
	},
}

var probed = map[string]probeCase{
	// As large, but for a probe that can't be run while the pod stands still. It takes longer to save than these failures do, too, and a busy machine
	// takes longer than a second to run it now and then.
	"exec": {handler: execProbe, timeout: 3, failures: 5, args: []string{"-memory=768"}},
}

// TestProbes drains nodes of pods with strict liveness probes: none is ever restarted, saved or not.
func TestProbes(t *testing.T) {
	for _, group := range strictlyProbed {
		t.Run("alone", func(t *testing.T) {
			for name, c := range group {
				inBackground(t, name, func(t *testing.T) { testProbe(t, "probe-"+name, c) })
			}
		})
	}
	t.Parallel()
	for name, c := range probed {
		inParallel(t, name, func(t *testing.T) { testProbe(t, "probe-"+name, c) })
	}
}

func testProbe(t *testing.T, name string, c probeCase) {
	s := newScene(t, name, nil, "main")
	container := s.Stepper(s.name, "main", append(c.args, fmt.Sprintf("-health=:%d", probePort))...)
	container.LivenessProbe = &corev1.Probe{ProbeHandler: c.handler, PeriodSeconds: 1, TimeoutSeconds: max(1, c.timeout), FailureThreshold: c.failures}
	s.create(s.Deployment(s.name, s.Template(s.name, container)))
	before := s.settle()
	after := s.drain(before)
	if c.tells == "" {
		s.checkMoved(before, after, 1)
		ctx, cancel := s.within(moveTimeout)
		defer cancel()
		first := s.wait(ctx, "main", carriedOn(after.Status.PodIP))
		s.wait(ctx, "main", recorder.Reached(first[len(first)-1].Step+probedSteps))
		s.checkNeverRestarted()
		return
	}
	s.checkCold(before, after)
	s.checkNotSaved(before, c)
	// The replacement starts as any pod does, which a strict probe may not survive on a busy machine.
	s.checkNotKilled(before.Name)
}

// checkNotSaved fails the test unless the attempt ended as it should, and tells why.
func (s *scene) checkNotSaved(pod *corev1.Pod, c probeCase) {
	s.t.Helper()
	checkpoint := s.checkpoint(pod, c.phase)
	ready := meta.FindStatusCondition(checkpoint.Status.Conditions, v1alpha1.ConditionReady)
	if len(c.args) > 0 && (ready == nil || ready.Reason != v1alpha1.ReasonMaxFreeze) {
		s.t.Errorf("condition %+v, want the reason %s", ready, v1alpha1.ReasonMaxFreeze)
	}
	event := s.event(c.reason)
	if !strings.Contains(event.Message, c.tells) {
		s.t.Errorf("event %s says %q, want something of %q", event.Reason, event.Message, c.tells)
	}
	s.t.Logf("event %s: %s", event.Reason, event.Message)
}

// checkNotKilled fails the test when a kubelet killed a container of the pod because of its probe; of any pod if the name is empty.
func (s *scene) checkNotKilled(pod string) {
	s.t.Helper()
	var events corev1.EventList
	if err := testbed.Client.List(s.t.Context(), &events, client.InNamespace(s.Namespace)); err != nil {
		s.t.Fatal(err)
	}
	for _, e := range events.Items {
		if strings.Contains(e.Message, "failed liveness probe") && (pod == "" || e.InvolvedObject.Name == pod) {
			s.t.Errorf("event on %s: %s", e.InvolvedObject.Name, e.Message)
		}
	}
}

// checkNeverRestarted fails the test when a kubelet killed a container because of its probe, or ran one again.
func (s *scene) checkNeverRestarted() {
	s.t.Helper()
	s.checkNotKilled("")
	pod, err := testbed.Pod(s.t.Context(), s.Namespace, s.name)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range pod.Status.ContainerStatuses {
		if c.RestartCount != 0 {
			s.t.Errorf("container %q of pod %q was restarted %d times", c.Name, pod.Name, c.RestartCount)
		}
	}
}
