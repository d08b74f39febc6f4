// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
	"github.com/cryopod/cryopod/test/e2e/object"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

const (
	// settled is how many steps a workload does before it is disturbed, and after that.
	settled = 30
	// startTimeout bounds the start of a pod, pulls of its images included, until it is settled.
	startTimeout = 4 * time.Minute
	// drainTimeout is above the default deadline of an eviction.
	drainTimeout = 150 * time.Second
	// moveTimeout bounds the time from the end of a drain to a replacement that runs and is settled.
	moveTimeout = 2 * time.Minute
	// toldTimeout bounds the time until what has happened is written, in a PodCheckpoint or an event.
	toldTimeout = time.Minute
	// askTimeout bounds one run of kubectl that waits for nothing.
	askTimeout = 30 * time.Second
)

// scene is a namespace with one pod, made by a controller of the scene's name.
type scene struct {
	object.Maker
	t    *testing.T
	name string
	// containers are those that report steps.
	containers []string
	// nodes are those that the pod moves between by drains.
	nodes *pair
}

func newScene(t *testing.T, name string, labels map[string]string, containers ...string) *scene {
	t.Helper()
	namespace := "e2e-" + name + "-" + strings.ToLower(rand.Text()[:6])
	s := &scene{Maker: testbed.Maker(namespace), t: t, name: name, containers: containers, nodes: common}
	s.create(s.NamespaceObject(labels))
	t.Cleanup(s.end)
	return s
}

// end takes the scene away, but leaves a failed one to be looked at on a cluster that stays.
func (s *scene) end() {
	if s.t.Failed() {
		var report strings.Builder
		testbed.Diagnose(context.Background(), &report, s.Namespace)
		s.t.Log(report.String())
		if keep {
			return
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := forget(ctx, s.Namespace); err != nil {
		s.t.Error(err)
	}
}

func (s *scene) create(objects ...client.Object) {
	s.t.Helper()
	if err := testbed.Create(s.t.Context(), objects...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.t.Context(), d)
}

// settle returns the pod once it runs and has done some steps.
func (s *scene) settle() *corev1.Pod {
	s.t.Helper()
	ctx, cancel := s.within(startTimeout)
	defer cancel()
	pod, err := testbed.RunningPod(ctx, s.Namespace, s.name)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range s.containers {
		s.wait(ctx, c, carriedOn(pod.Status.PodIP))
	}
	return pod
}

// wait returns the entries of a container's steps once enough holds for them.
func (s *scene) wait(ctx context.Context, container string, enough func([]recorder.Entry) bool) []recorder.Entry {
	s.t.Helper()
	entries, err := testbed.Recorder.Wait(ctx, s.Workload(s.name, container), enough)
	if err != nil {
		s.t.Fatal(err)
	}
	return entries
}

// carriedOn holds once the pod of that address has done some steps and checked all of its memory.
func carriedOn(ip string) func([]recorder.Entry) bool {
	return func(entries []recorder.Entry) bool {
		var first, last *recorder.Entry
		for i := range entries {
			if e := &entries[i]; e.Peer == ip && e.Fault == "" {
				if first == nil {
					first = e
				}
				last = e
			}
		}
		return first != nil && last.Step >= first.Step+settled && last.Verified >= first.Verified+first.Bytes
	}
}

// drain drains the pod's node of that pod and returns its replacement once it runs, on another node.
func (s *scene) drain(pod *corev1.Pod) *corev1.Pod {
	s.t.Helper()
	return s.drainBy(pod, kubectl.Drain{})
}

// drainBy drains as drain does, with the options of d that say how.
func (s *scene) drainBy(pod *corev1.Pod, d kubectl.Drain) *corev1.Pod {
	s.t.Helper()
	s.nodes.enter(pod.Spec.NodeName)
	defer s.nodes.leave(s.uncordon)
	ctx, cancel := s.within(drainTimeout + moveTimeout)
	defer cancel()
	d.Node, d.Selector, d.Timeout = pod.Spec.NodeName, object.LabelApp+"="+s.name, drainTimeout
	begun := time.Now()
	drained, err := testbed.Kubectl.Drain(ctx, d)
	if err != nil && (!d.DisableEviction || !putOff(err)) {
		s.t.Fatal(err)
	}
	s.t.Logf("%s drained of %s in %.1f s", pod.Spec.NodeName, pod.Name, drained.Ended.Sub(begun).Seconds())
	replacement := s.replaced(pod, moveTimeout)
	if replacement.Spec.NodeName == pod.Spec.NodeName {
		s.t.Fatalf("pod %q runs on %q, which was drained", replacement.Name, replacement.Spec.NodeName)
	}
	return replacement
}

// replaced returns the pod that took the place of another, once it runs.
func (s *scene) replaced(before *corev1.Pod, within time.Duration) *corev1.Pod {
	s.t.Helper()
	ctx, cancel := s.within(within)
	defer cancel()
	after, err := testbed.RunningPod(ctx, s.Namespace, s.name, before.UID)
	if err != nil {
		s.t.Fatal(err)
	}
	return after
}

func (s *scene) uncordon(node string) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if err := testbed.Kubectl.Uncordon(ctx, node); err != nil {
		s.t.Error(err)
	}
}

// checkpoint is the one attempt to save the pod, once it is in one of the phases.
func (s *scene) checkpoint(pod *corev1.Pod, phases ...v1alpha1.Phase) v1alpha1.PodCheckpoint {
	s.t.Helper()
	ctx, cancel := s.within(toldTimeout)
	defer cancel()
	var found v1alpha1.PodCheckpoint
	err := bed.Until(ctx, func(ctx context.Context) error {
		all, err := testbed.Checkpoints(ctx, s.Namespace, pod.UID)
		if err != nil {
			return err
		}
		if len(all) != 1 {
			return fmt.Errorf("pod %q has %d PodCheckpoints, want 1", pod.Name, len(all))
		}
		found = all[0]
		for _, p := range phases {
			if found.Status.Phase == p {
				return nil
			}
		}
		return fmt.Errorf("checkpoint %q is %s (%s), want %v", found.Name, found.Status.Phase, found.Status.Message, phases)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// noCheckpoint fails the test when there is any in the namespace.
func (s *scene) noCheckpoint() {
	s.t.Helper()
	var all v1alpha1.PodCheckpointList
	if err := testbed.Client.List(s.t.Context(), &all, client.InNamespace(s.Namespace)); err != nil {
		s.t.Fatal(err)
	}
	for _, c := range all.Items {
		s.t.Errorf("there is PodCheckpoint %q (%s)", c.Name, c.Status.Phase)
	}
}

// event returns the first event of one of the reasons in the namespace, once there is one.
func (s *scene) event(reasons ...string) corev1.Event {
	s.t.Helper()
	ctx, cancel := s.within(toldTimeout)
	defer cancel()
	var found corev1.Event
	err := bed.Until(ctx, func(ctx context.Context) error {
		var events corev1.EventList
		if err := testbed.Client.List(ctx, &events, client.InNamespace(s.Namespace)); err != nil {
			return err
		}
		for _, found = range events.Items {
			for _, r := range reasons {
				if found.Reason == r {
					return nil
				}
			}
		}
		return fmt.Errorf("no event of %v in %q", reasons, s.Namespace)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}
