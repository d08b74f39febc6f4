// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

const (
	// shownSteps is how many steps are printed on either side of the move.
	shownSteps = 3
	clock      = "15:04:05"
)

// tell prints what happened.
func (s *show) tell(e *evidence) {
	m := e.Verdict.Moves[0]
	s.say("\n== What the recorder saw")
	i := slices.IndexFunc(e.Entries, func(x recorder.Entry) bool { return x.Sequence == m.First.Sequence })
	for _, x := range e.Entries[max(0, i-shownSteps):i] {
		s.sayStep(x)
	}
	s.say("  -- %.2f s without a step --", m.Downtime().Seconds())
	for _, x := range e.Entries[i:min(len(e.Entries), i+shownSteps)] {
		s.sayStep(x)
	}
	s.say("  %d steps lost, %d repeated", len(e.Verdict.Lost), len(e.Verdict.Repeated))

	s.say("\n== How long it took")
	e.Observations.Print(s.out)
	for _, c := range e.Checkpoint.Status.Containers {
		s.say("  container %s: archive of %s, %s pushed", c.Name, size(c.Bytes), size(c.PushedBytes))
	}

	s.say("\n== What Kubernetes says: %s", e.Checkpoint.Name)
	s.say("  %s: %s", e.Checkpoint.Status.Phase, e.Checkpoint.Status.Message)
	conditions := slices.Clone(e.After.Status.Conditions)
	slices.SortStableFunc(conditions, func(x, y corev1.PodCondition) int { return x.LastTransitionTime.Compare(y.LastTransitionTime.Time) })
	for _, c := range conditions {
		if c.Status == corev1.ConditionTrue {
			s.say("  %s  %s is %s", c.LastTransitionTime.UTC().Format(clock), e.After.Name, c.Type)
		}
	}
	s.say("\n== What was published as events")
	for _, x := range since(e.Observations.Requested, e.events) {
		s.say("  %s  %s %s: %s: %s", bed.EventTime(x).UTC().Format(clock), x.InvolvedObject.Kind, x.InvolvedObject.Name, x.Reason, x.Message)
	}
}

// since leaves out what was before begin, and what was said about a second object in the same words. Kubelets round times to seconds.
func since(begin time.Time, events []corev1.Event) []corev1.Event {
	told := map[string]bool{}
	var left []corev1.Event
	for _, x := range events {
		if bed.EventTime(x).Before(begin.Truncate(time.Second)) || told[x.Message] {
			continue
		}
		told[x.Message] = true
		left = append(left, x)
	}
	return left
}

func (s *show) sayStep(x recorder.Entry) {
	s.say("  %s  step %4d  %s  %s", x.Time.Format("15:04:05.000"), x.Step, x.Node, x.Pod)
}

func size(bytes int64) string {
	return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
}

// indented writes lines with two spaces before each.
type indented struct {
	to io.Writer
}

func (w indented) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if _, err := fmt.Fprintf(w.to, "  %s", line); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
