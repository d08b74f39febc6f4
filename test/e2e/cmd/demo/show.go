// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
	"github.com/cryopod/cryopod/test/e2e/object"
	"github.com/cryopod/cryopod/test/e2e/recorder"
	"github.com/cryopod/cryopod/test/e2e/report"
	"github.com/cryopod/cryopod/test/e2e/timeline"
)

const (
	namespace = "demo"
	container = "main"
	// stepsAround is how many steps the process does before the drain, and after it, at 20 a second.
	stepsAround = 60
	// drainTimeout is above the default deadline of an eviction.
	drainTimeout = 3 * time.Minute
	waitTimeout  = 90 * time.Second
)

// show is one run of the demo.
type show struct {
	options
	out   io.Writer
	bed   *bed.Bed
	maker object.Maker
	// name is that of the Deployment. It is new each time: the process of a former run may still be heard of by its own.
	name string
}

func (s *show) say(format string, args ...any) {
	fmt.Fprintf(s.out, format+"\n", args...)
}

func (s *show) run(ctx context.Context) error {
	s.say("== A cluster on this machine, with Cryopod from this checkout")
	var err error
	if s.bed, err = bed.Up(ctx, bed.Options{Cluster: s.cluster, Progress: s.out}); err != nil {
		return err
	}
	defer s.bed.Close()
	s.maker = s.bed.Maker(namespace)
	s.name = "counter-" + strings.ToLower(rand.Text()[:4])
	pod, err := s.deploy(ctx)
	if err != nil {
		return err
	}
	found, err := s.move(ctx, pod)
	if err != nil {
		s.bed.Diagnose(ctx, s.out, namespace)
		return err
	}
	s.tell(found)
	r := summarize(found)
	if err := report.Write(s.report, r); err != nil {
		return err
	}
	s.say("\nThe numbers are in %s.", s.report)
	s.sayHowToGoOn()
	if r.StepsLost+r.StepsRepeated > 0 {
		return fmt.Errorf("the recorder saw %d steps lost and %d repeated", r.StepsLost, r.StepsRepeated)
	}
	return nil
}

// deploy returns the pod of the process once it counts. What a former run left is removed.
func (s *show) deploy(ctx context.Context) (*corev1.Pod, error) {
	s.say("\n== A process that counts, with %d MiB of memory and the annotation %s: \"true\"", s.mebibytes, v1alpha1.AnnotationEnabled)
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	if err := s.bed.RemoveNamespace(ctx, namespace); err != nil {
		return nil, err
	}
	process := s.maker.Stepper(s.name, container, fmt.Sprintf("-memory=%d", s.mebibytes), "-listen=:8080")
	if err := s.bed.Create(ctx, s.maker.NamespaceObject(nil), s.maker.Deployment(s.name, s.maker.Template(s.name, process))); err != nil {
		return nil, err
	}
	pod, err := s.bed.RunningPod(ctx, namespace, s.name)
	if err != nil {
		return nil, err
	}
	if _, err := s.bed.Recorder.Wait(ctx, s.maker.Workload(s.name, container), recorder.Reached(stepsAround)); err != nil {
		return nil, err
	}
	s.say("pod %s runs on %s; a recorder outside of it writes each step down before the process counts it", pod.Name, pod.Spec.NodeName)
	return pod, nil
}

// evidence is what was seen of the move.
type evidence struct {
	before, after *corev1.Pod
	checkpoint    v1alpha1.PodCheckpoint
	observations  timeline.Observations
	entries       []recorder.Entry
	verdict       recorder.Verdict
	events        []corev1.Event
}

// move drains the pod's node, and lets pods onto it again in the end.
func (s *show) move(ctx context.Context, pod *corev1.Pod) (e *evidence, err error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	observer, err := timeline.Observe(watching, s.bed.Client, namespace)
	if err != nil {
		return nil, err
	}
	drain := kubectl.Drain{Node: pod.Spec.NodeName, Timeout: drainTimeout, Output: indented{s.out}}
	s.say("\n== %s", drain)
	defer func() {
		err = errors.Join(err, s.bed.Kubectl.Uncordon(context.WithoutCancel(ctx), pod.Spec.NodeName))
	}()
	drained, err := s.bed.Kubectl.Drain(ctx, drain)
	if err != nil {
		return nil, err
	}
	e = &evidence{before: pod}
	if err := s.follow(ctx, e); err != nil {
		return nil, err
	}
	e.observations = timeline.Observations{
		Requested:   drained.Requested,
		Timings:     e.checkpoint.Status.Timings,
		Replacement: observer.Pod(e.after.UID),
		Move:        e.verdict.Moves[0],
	}
	return e, nil
}

// follow waits for the replacement and gathers what the API server and the recorder know of it.
func (s *show) follow(ctx context.Context, e *evidence) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	var err error
	if e.after, err = s.bed.RunningPod(ctx, namespace, s.name, e.before.UID); err != nil {
		return err
	}
	e.entries, err = s.bed.Recorder.Wait(ctx, s.maker.Workload(s.name, container), func(all []recorder.Entry) bool {
		v := recorder.Check(all)
		return len(v.Moves) > 0 && all[len(all)-1].Sequence-v.Moves[0].First.Sequence >= stepsAround
	})
	if err != nil {
		return err
	}
	e.verdict = recorder.Check(e.entries)
	err = bed.Until(ctx, func(ctx context.Context) error {
		all, err := s.bed.Checkpoints(ctx, namespace, e.before.UID)
		if err != nil {
			return err
		}
		if len(all) == 0 || !all[len(all)-1].Status.Phase.Final() {
			return fmt.Errorf("waiting for the end of the checkpoint of pod %q: there are %d", e.before.Name, len(all))
		}
		e.checkpoint = all[len(all)-1]
		return nil
	})
	if err != nil {
		return err
	}
	e.events, err = s.bed.Events(ctx, namespace)
	return err
}

func (s *show) sayHowToGoOn() {
	down := "make cluster-down"
	if s.cluster != cluster.DefaultName {
		down += " CLUSTER=" + s.cluster
	}
	s.say("The cluster stays up. To use it:\n\n    export KUBECONFIG=%s\n    %s get podcheckpoints -A\n\nTo stop it and remove all of it:\n\n    %s",
		s.bed.Cluster.Kubeconfig(), s.bed.Cluster.Kubectl(), down)
}
