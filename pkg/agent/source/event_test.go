// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/cryopod/cryopod/pkg/agent/source"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// subjects keeps the types of what events are about.
type subjects struct{ seen []string }

func (s *subjects) Eventf(regarding, _ runtime.Object, _, _, _, _ string, _ ...any) {
	s.seen = append(s.seen, fmt.Sprintf("%T", regarding))
}

// TestEvents tells a pod once that it is going to be saved: before an eviction, the webhook does. What is done on a schedule it is not told.
func TestEvents(t *testing.T) {
	const pc, pod = "*v1alpha1.PodCheckpoint", "*v1.Pod"
	tests := map[string]struct {
		why    v1alpha1.Reason
		reason string
		want   []string
	}{
		"started for an eviction": {v1alpha1.ReasonEviction, "CheckpointStarted", []string{pc}},
		"started by hand":         {v1alpha1.ReasonManual, "CheckpointStarted", []string{pc, pod}},
		"started on a schedule":   {v1alpha1.ReasonSchedule, "CheckpointStarted", []string{pc}},
		"failed on a schedule":    {v1alpha1.ReasonSchedule, "CheckpointFailed", []string{pc}},
		"ready for an eviction":   {v1alpha1.ReasonEviction, "CheckpointReady", []string{pc, pod}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			seen := &subjects{}
			checkpoint := &v1alpha1.PodCheckpoint{Spec: v1alpha1.PodCheckpointSpec{Reason: tc.why}}
			source.Events{Recorder: seen}.Event(checkpoint, false, tc.reason, "note")
			if diff := cmp.Diff(tc.want, seen.seen); diff != "" {
				t.Errorf("events on (-want +got):\n%s", diff)
			}
		})
	}
}
