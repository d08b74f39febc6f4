// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/chaos/fault"
	"github.com/cryopod/cryopod/test/e2e/install"
)

const (
	// rounds is how many pods are made and evicted to measure how long that takes.
	rounds = 10
	// costs is how much longer a request may take on the average of a busy machine, because Cryopod is installed and down.
	costs = 100 * time.Millisecond
)

// TestAllDown takes down all of Cryopod, and leaves it installed. Opted-in pods are made, placed, evicted and replaced then as if it were
// not there, and the requests take as long.
func TestAllDown(t *testing.T) {
	s := newScene(t, "alldown", nil, "main")
	s.create(s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main"))))
	before := s.settle()
	takeAllDown(t)

	downMade, downEvicted := s.requests("down")
	restore := s.withoutConfiguration()
	madeWithout, evictedWithout := s.requests("without")
	restore()
	t.Logf("median of %d requests with Cryopod down, and without it: making an opted-in pod %v, %v; evicting one %v, %v",
		rounds, downMade, madeWithout, downEvicted, evictedWithout)
	if downMade > madeWithout+costs || downEvicted > evictedWithout+costs {
		t.Errorf("a request takes more than %v longer than without Cryopod", costs)
	}

	for name, template := range map[string]corev1.PodTemplateSpec{
		"newcomer": s.Template("newcomer", s.Stepper("newcomer", "main")),
		"plain":    s.Template("plain", s.Stepper("plain", "main")),
	} {
		if name == "plain" {
			template.Annotations = nil
		}
		begun := time.Now()
		s.create(s.Deployment(name, template))
		ctx, cancel := s.within(startTimeout)
		pod, err := testbed.RunningPod(ctx, s.Namespace, name)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s runs on %s, placed by %s, after %v", pod.Name, pod.Spec.NodeName, pod.Spec.SchedulerName, time.Since(begun).Round(time.Millisecond))
		if pod.Spec.SchedulerName != corev1.DefaultSchedulerName {
			t.Errorf("pod %q waits for scheduler %q", pod.Name, pod.Spec.SchedulerName)
		}
	}
	begun := time.Now()
	after := s.drain(before)
	if took := time.Since(begun); took > coldLimit {
		t.Errorf("the drain and the replacement's start took %v", took)
	}
	s.checkCold(before, after)
	s.noCheckpoint()
}

// takeAllDown scales Cryopod to nothing, until the test is over.
func takeAllDown(t *testing.T) {
	t.Helper()
	const agents = "daemonset/cryopod-agent"
	deployments := []string{"cryopod-scheduler", "cryopod-webhook"}
	place := func(ctx context.Context, value string) error {
		_, err := testbed.Kubectl.Run(ctx, "patch", "-n", install.Namespace, agents, "-p",
			fmt.Sprintf(`{"spec":{"template":{"spec":{"nodeSelector":{"cryopod-e2e/nowhere":%s}}}}}`, value))
		return err
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		errs := []error{place(ctx, "null")}
		for _, d := range deployments {
			_, err := testbed.Kubectl.Run(ctx, "scale", "-n", install.Namespace, "deployment/"+d, "--replicas=2")
			errs = append(errs, err)
		}
		if err := errors.Join(append(errs, fault.Calm(ctx, testbed))...); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), moveTimeout)
	defer cancel()
	errs := []error{place(ctx, `"yes"`)}
	for _, d := range deployments {
		errs = append(errs, testbed.Scale(ctx, d, 0))
	}
	gone := func(ctx context.Context) error {
		pods, err := testbed.ComponentPods(ctx, "cryopod-agent")
		if err == nil && len(pods) > 0 {
			err = fmt.Errorf("there are still %d agents", len(pods))
		}
		return err
	}
	if err := errors.Join(append(errs, bed.Until(ctx, gone))...); err != nil {
		t.Fatal(err)
	}
}

// requests are the medians of what it takes to make an opted-in pod, and to evict it.
func (s *scene) requests(name string) (made, evicted time.Duration) {
	s.t.Helper()
	var creates, evictions []time.Duration
	for i := range rounds {
		template := s.Template(name, s.Stepper(name, "main"))
		pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
		pod.Namespace, pod.Name = s.Namespace, fmt.Sprintf("%s-%d", name, i)
		// It is about the requests: nothing needs to run.
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "cryopod-e2e/never"}}
		begun := time.Now()
		s.create(pod)
		creates = append(creates, time.Since(begun))
		begun = time.Now()
		if err := testbed.Client.SubResource("eviction").Create(s.t.Context(), pod, &policyv1.Eviction{}); err != nil {
			s.t.Fatal(err)
		}
		evictions = append(evictions, time.Since(begun))
	}
	return median(creates), median(evictions)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// withoutConfiguration takes away by what the API server knows of Cryopod, and returns what brings it back, as the end of the test does.
func (s *scene) withoutConfiguration() (restore func()) {
	s.t.Helper()
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := testbed.Client.Get(s.t.Context(), client.ObjectKey{Name: "cryopod"}, config); err != nil {
		s.t.Fatal(err)
	}
	restore = func() {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		again := config.DeepCopy()
		again.ResourceVersion, again.UID = "", ""
		if err := testbed.Client.Create(ctx, again); err != nil && !apierrors.IsAlreadyExists(err) {
			s.t.Error(err)
		}
	}
	s.t.Cleanup(restore)
	if err := testbed.Client.Delete(s.t.Context(), config.DeepCopy()); err != nil {
		s.t.Fatal(err)
	}
	return restore
}
