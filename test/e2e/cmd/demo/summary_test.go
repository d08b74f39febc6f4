// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/recorder"
	"github.com/cryopod/cryopod/test/e2e/timeline"
	"github.com/cryopod/cryopod/test/e2e/trial"
)

const want = `{
  "workload": "demo/counter/main",
  "fromNode": "node-1",
  "toNode": "node-2",
  "stepsBefore": 7,
  "firstStepAfter": 8,
  "stepsLost": 6,
  "stepsRepeated": 0,
  "memoryBytes": 1024,
  "imageBytes": 30,
  "downtimeSeconds": 2.5,
  "phases": {
    "dump": 1,
    "pull": 0.5,
    "restore": 0.75
  }
}`

func TestSummary(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	entry := func(step int64, node, peer string, at time.Duration) recorder.Entry {
		return recorder.Entry{
			Message: recorder.Message{Workload: "demo/counter/main", Step: step, Nonce: node, Bytes: 1024},
			Node:    node, Peer: peer, Time: begin.Add(at),
		}
	}
	entered := func(p v1alpha1.Phase, at time.Duration) v1alpha1.PhaseTiming {
		return v1alpha1.PhaseTiming{Phase: p, Time: metav1.NewMicroTime(begin.Add(at))}
	}
	e := &evidence{Result: &trial.Result{Checkpoint: &v1alpha1.PodCheckpoint{}, Verdict: recorder.Check([]recorder.Entry{entry(7, "node-1", "a", 0), entry(8, "node-2", "b", 2500*time.Millisecond)})}}
	e.Checkpoint.Status = v1alpha1.PodCheckpointStatus{
		Containers: []v1alpha1.ContainerCheckpoint{{Name: "x", PushedBytes: 10}, {Name: "y", PushedBytes: 20}},
		Timings:    []v1alpha1.PhaseTiming{entered(v1alpha1.PhaseDumping, 0), entered(v1alpha1.PhaseExporting, time.Second)},
	}
	e.Observations = timeline.Observations{
		Timings:     e.Checkpoint.Status.Timings,
		Replacement: timeline.Seen{Bound: begin.Add(1250 * time.Millisecond), Pulled: ptr.To(500 * time.Millisecond)},
		Move:        e.Verdict.Moves[0],
	}
	got, err := json.MarshalIndent(summarize(e), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestSince(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	event := func(message string, at time.Duration) corev1.Event {
		return corev1.Event{Message: message, FirstTimestamp: metav1.NewTime(begin.Add(at).Truncate(time.Second))}
	}
	events := []corev1.Event{event("before", -2*time.Second), event("in that second", 0), event("twice", time.Second), event("twice", time.Second), event("last", time.Minute)}
	var got []string
	for _, e := range since(begin, events) {
		got = append(got, e.Message)
	}
	if diff := cmp.Diff([]string{"in that second", "twice", "last"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
