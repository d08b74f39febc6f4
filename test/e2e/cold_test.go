// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
	"github.com/cryopod/cryopod/test/e2e/object"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

// coldCase is a workload that is saved in vain or not at all, and must start cold, with the reason in an event.
type coldCase struct {
	template func(*scene) corev1.PodTemplateSpec
	// reasons are those of the events of which one must tell why; tells is what it must say, in lower case.
	reasons []string
	tells   string
}

var immovable = map[string]coldCase{
	// CRIU refuses to dump it.
	"socket": {template: mptcp, reasons: []string{"CheckpointFailed", "EvictedCold"}, tells: "criu"},
	// The file is no part of the checkpoint: the restore fails.
	"openfile": {template: openFile, reasons: []string{"RestoreFailed", "CheckpointFailed", "EvictedCold"}, tells: "restore"},
}

func mptcp(s *scene) corev1.PodTemplateSpec {
	return s.Template(s.name, s.Stepper(s.name, "main", "-mptcp"))
}

func openFile(s *scene) corev1.PodTemplateSpec {
	const volume, mount = "scratch", "/scratch"
	container := s.Stepper(s.name, "main", "-open-file="+mount+"/file")
	container.VolumeMounts = []corev1.VolumeMount{{Name: volume, MountPath: mount}}
	template := s.Template(s.name, container)
	template.Spec.Volumes = []corev1.Volume{{Name: volume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	return template
}

func testImmovable(t *testing.T, name string, c coldCase) {
	s := newScene(t, name, nil, "main")
	s.create(s.Deployment(name, c.template(s)))
	before := s.settle()
	after := s.drain(before)
	s.checkCold(before, after)
	s.checkpoint(before, v1alpha1.PhaseFailed)
	event := s.event(c.reasons...)
	if !strings.Contains(strings.ToLower(event.Message), c.tells) {
		t.Errorf("event %s says %q, want something of %q", event.Reason, event.Message, c.tells)
	}
	t.Logf("event %s: %s", event.Reason, event.Message)
	now, err := testbed.Pod(t.Context(), s.Namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	if image := now.Spec.Containers[0].Image; now.UID != after.UID || image != s.Images.Stepper {
		t.Errorf("pod %q runs from %q, want pod %q from its owner's image %q", now.Name, image, after.Name, s.Images.Stepper)
	}
}

// checkCold fails the test unless the replacement does its steps from the first one on, and never at the same time as the old pod.
func (s *scene) checkCold(before, after *corev1.Pod) {
	s.t.Helper()
	for _, c := range s.containers {
		ctx, cancel := s.within(moveTimeout)
		entries := s.wait(ctx, c, carriedOn(after.Status.PodIP))
		cancel()
		verdict := recorder.Check(entries)
		if len(verdict.Faults) > 0 || len(verdict.Overlaps) > 0 {
			s.t.Errorf("container %q: faults %q, messages from the old pod %v", c, verdict.Faults, verdict.Overlaps)
		}
		if len(verdict.Moves) != 1 {
			s.t.Fatalf("container %q moved %d times, want once: %+v", c, len(verdict.Moves), verdict.Moves)
		}
		if m := verdict.Moves[0]; m.First.Step != 1 || m.Last.Peer != before.Status.PodIP {
			s.t.Errorf("container %q began at step %d after %s, want a cold start after %s", c, m.First.Step, m.Last.Peer, before.Status.PodIP)
		}
	}
}

// testExcluded drains an annotated pod of a namespace that Cryopod has to keep away from.
func testExcluded(t *testing.T) {
	s := newScene(t, "excluded", map[string]string{v1alpha1.LabelExclude: "true"}, "main")
	s.create(s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main"))))
	before := s.settle()
	if _, touched := before.Labels[v1alpha1.LabelEnabled]; touched || before.Spec.SchedulerName != corev1.DefaultSchedulerName {
		t.Errorf("admission changed pod %q: labels %v, scheduler %q", before.Name, before.Labels, before.Spec.SchedulerName)
	}
	after := s.drain(before)
	s.checkCold(before, after)
	s.noCheckpoint()
}

// testBudget drains a pod whose PodDisruptionBudget refuses: it must not even be frozen.
func testBudget(t *testing.T) {
	s := newScene(t, "budget", nil, "main")
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
	begun := time.Now()
	output := s.refusedDrain(pod.Spec.NodeName)
	if !strings.Contains(output, "disruption budget") {
		t.Errorf("kubectl drain said %q, want the budget's refusal", output)
	}
	s.noCheckpoint()
	now, err := testbed.Pod(t.Context(), s.Namespace, s.name)
	if err != nil || now.UID != pod.UID {
		t.Fatalf("pod %q was replaced: %v", pod.Name, err)
	}
	ctx, cancel := s.within(moveTimeout)
	defer cancel()
	entries := s.wait(ctx, "main", func(all []recorder.Entry) bool {
		return len(all) > 0 && all[len(all)-1].Time.After(time.Now().Add(-time.Second))
	})
	if err := recorder.Check(entries).Err(); err != nil {
		t.Error(err)
	}
	// A pod that is frozen for a checkpoint stands still for longer than a busy machine holds it up.
	const longest = 5 * time.Second
	for i := 1; i < len(entries); i++ {
		if gap := entries[i].Time.Sub(entries[i-1].Time); entries[i].Time.After(begun) && gap > longest {
			t.Errorf("no step for %v before step %d", gap, entries[i].Step)
		}
	}
}

// budgetSeen returns once the budget's controller has counted the pod.
func (s *scene) budgetSeen() {
	s.t.Helper()
	ctx, cancel := s.within(toldTimeout)
	defer cancel()
	if _, err := testbed.Kubectl.Run(ctx, "wait", "-n", s.Namespace, "pdb", s.name, "--for=jsonpath={.status.currentHealthy}=1", "--timeout=50s"); err != nil {
		s.t.Fatal(err)
	}
}

// refusedDrain drains the node of the scene's pod for as long as a few tries of kubectl take, and returns what kubectl said.
func (s *scene) refusedDrain(node string) string {
	s.t.Helper()
	s.nodes.enter(node)
	defer s.nodes.leave(s.uncordon)
	drained, err := testbed.Kubectl.Drain(s.t.Context(), kubectl.Drain{
		Node: node, Selector: object.LabelApp + "=" + s.name, Timeout: 8 * time.Second,
	})
	if err == nil {
		s.t.Fatalf("the drain went through: %s", drained.Output)
	}
	return drained.Output
}

// TestNotAnnotated drains a pod that was not opted in: it is left as it is, and its creation costs no call of the webhook.
func TestNotAnnotated(t *testing.T) {
	s := newScene(t, "plain", nil, "main")
	calls := func() float64 {
		t.Helper()
		n, err := testbed.WebhookCalls(t.Context(), "/mutate-pod")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := calls()
	template := s.Template(s.name, s.Stepper(s.name, "main"))
	template.Annotations = nil
	s.create(s.Deployment(s.name, template))
	pod := s.settle()
	if len(pod.Annotations) > 0 || len(pod.Spec.Containers[0].Env) > 0 || pod.Spec.SchedulerName != corev1.DefaultSchedulerName {
		t.Errorf("admission changed pod %q: annotations %v, environment %v, scheduler %q",
			pod.Name, pod.Annotations, pod.Spec.Containers[0].Env, pod.Spec.SchedulerName)
	}
	after := s.drain(pod)
	s.checkCold(pod, after)
	s.noCheckpoint()
	if n := calls() - before; n != 0 {
		t.Errorf("the webhook was called %v times for pods without the annotation", n)
	}
	// The counter does count: an annotated pod costs a call.
	annotated := s.Deployment("annotated", s.Template("annotated", s.Stepper("annotated", "main")))
	s.create(client.Object(annotated))
	ctx, cancel := s.within(startTimeout)
	defer cancel()
	if _, err := testbed.RunningPod(ctx, s.Namespace, "annotated"); err != nil {
		t.Fatal(err)
	}
	if n := calls() - before; n == 0 {
		t.Error("the webhook was not called for an annotated pod")
	}
}
