// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
	"github.com/cryopod/cryopod/test/e2e/report"
	"github.com/cryopod/cryopod/test/e2e/trial"
)

// stepsAround is how many steps the process does before the drain, and after it, at 20 a second.
const stepsAround = 60

// show is one run of the demo.
type show struct {
	options
	out io.Writer
	bed *bed.Bed
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
	found, err := s.move(ctx)
	if err != nil {
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

// evidence is what was seen of the move.
type evidence struct {
	*trial.Result
	events []corev1.Event
}

// move drains the node of a process that counts. What a former run left is removed.
func (s *show) move(ctx context.Context) (*evidence, error) {
	s.say("\n== A process that counts, with %d MiB of memory and the annotation %s: \"true\"", s.mebibytes, v1alpha1.AnnotationEnabled)
	if err := trial.Sweep(ctx, s.bed); err != nil {
		return nil, err
	}
	t := trial.Trial{
		Bed: s.bed, Name: "demo", Mebibytes: s.mebibytes, Steps: stepsAround, StepsAfter: stepsAround,
		Arguments: []string{"-listen=:8080"}, Everything: true, Settled: s.saySettled, Output: indented{s.out},
	}
	result, err := t.Run(ctx)
	if err != nil {
		return nil, err
	}
	events, err := s.bed.Events(ctx, result.Namespace)
	return &evidence{Result: result, events: events}, err
}

func (s *show) saySettled(pod *corev1.Pod, drain kubectl.Drain) {
	s.say("pod %s runs on %s; a recorder outside of it writes each step down before the process counts it", pod.Name, pod.Spec.NodeName)
	s.say("\n== %s", drain)
}

func (s *show) sayHowToGoOn() {
	down := "make cluster-down"
	if s.cluster != cluster.DefaultName {
		down += " CLUSTER=" + s.cluster
	}
	s.say("The cluster stays up. To use it:\n\n    export KUBECONFIG=%s\n    %s get podcheckpoints -A\n\nTo stop it and remove all of it:\n\n    %s",
		s.bed.Cluster.Kubeconfig(), s.bed.Cluster.Kubectl(), down)
}
