// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

// givenUp bounds the time from a pod's end to that of its checkpoint, for which no pod is going to come.
const givenUp = 2 * time.Minute

// quick is one Stepper in a pod that need not be asked for long: while it stands still it hears nothing.
func (s *scene) quick(args ...string) corev1.PodTemplateSpec {
	template := s.Template(s.name, s.Stepper(s.name, "main", args...))
	template.Spec.TerminationGracePeriodSeconds = ptr.To[int64](2)
	return template
}

// save makes a checkpoint of the pod by hand, and returns it once it is Ready and the pod stands still.
func (s *scene) save(pod *corev1.Pod) v1alpha1.PodCheckpoint {
	s.t.Helper()
	s.create(match.NewCheckpoint(pod, match.Request{Attempt: 1, Reason: v1alpha1.ReasonManual, Fence: true}))
	return s.checkpoint(pod, v1alpha1.PhaseReady)
}

func (s *scene) kubectl(args ...string) string {
	s.t.Helper()
	ctx, cancel := s.within(drainTimeout)
	defer cancel()
	out, err := testbed.Kubectl.Run(ctx, append(args, "-n", s.Namespace)...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// checkGivenUp fails the test unless the checkpoint comes to be over, with nobody's claim, and kubectl describe tells the rule.
func (s *scene) checkGivenUp(pod *corev1.Pod, rule string) {
	s.t.Helper()
	over := s.untilCheckpoint(pod, givenUp, func(c v1alpha1.PodCheckpoint) bool { return c.Status.Phase == v1alpha1.PhaseExpired })
	if over.Status.Claim != nil {
		s.t.Errorf("PodCheckpoint %q was claimed by pod %q", over.Name, over.Status.Claim.PodName)
	}
	if text := s.kubectl("describe", "podcheckpoint", over.Name); !strings.Contains(text, rule) {
		s.t.Errorf("kubectl describe podcheckpoint says\n%s\nwant something of %q", text, rule)
	}
	s.t.Logf("PodCheckpoint %q: %s", over.Name, over.Status.Message)
}

// testRollout changes the template while a checkpoint waits: the new pods are others.
func testRollout(t *testing.T) {
	s := newScene(t, "rollout", nil, "main")
	s.create(s.Deployment(s.name, s.quick()))
	before := s.settle()
	s.save(before)
	s.kubectl("set", "env", "deployment/"+s.name, "ROLLED=out")
	after := s.replaced(before, moveTimeout)
	s.checkCold(before, after)
	s.checkGivenUp(before, "rollout")
}

// testScaleDown takes the only pod away while its checkpoint waits, and brings one back later: that begins anew.
func testScaleDown(t *testing.T) {
	s := newScene(t, "scaledown", nil, "main")
	s.create(s.Deployment(s.name, s.quick()))
	before := s.settle()
	s.save(before)
	s.kubectl("scale", "deployment/"+s.name, "--replicas=0")
	s.checkGivenUp(before, "scaled to 0")
	s.kubectl("scale", "deployment/"+s.name, "--replicas=1")
	s.checkCold(before, s.replaced(before, moveTimeout))
}

// testJobCompletion has a Job succeed by its other pod while a checkpoint waits.
func testJobCompletion(t *testing.T) {
	// Its 15 s are enough for the other pod to be saved, which can't be once it has ended itself, and less than the 30 s for which that one stays frozen.
	const index, other, end = "1", "0", 300
	s := newScene(t, "completion", nil, "main")
	job := s.Job(s.name, s.quick(fmt.Sprintf("-until=%d", end)))
	job.Spec.Completions, job.Spec.Parallelism = ptr.To[int32](2), ptr.To[int32](2)
	job.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
	job.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr.To(other)}}}
	// Each pod counts for itself: what begins by -name=.
	job.Spec.Template.Spec.Containers[0].Args[0] += "-$(JOB_COMPLETION_INDEX)"
	s.create(job)
	ctx, cancel := s.within(startTimeout)
	defer cancel()
	s.wait(ctx, "main-"+index, recorder.Reached(settled))
	var pods corev1.PodList
	err := testbed.Client.List(ctx, &pods, client.InNamespace(s.Namespace), client.MatchingLabels{batchv1.JobCompletionIndexAnnotation: index})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("finding the pod of index %s: there are %d (%v)", index, len(pods.Items), err)
	}
	s.save(&pods.Items[0])
	s.wait(ctx, "main-"+other, recorder.Reached(end))
	s.checkGivenUp(&pods.Items[0], "is over")
}
