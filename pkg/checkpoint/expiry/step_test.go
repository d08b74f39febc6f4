// SPDX-License-Identifier: Apache-2.0

package expiry_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/expiry"
	"github.com/cryopod/cryopod/pkg/metrics"
)

var (
	start  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	limits = expiry.Limits{ReadyFor: time.Hour}
)

// checkpoint is a PodCheckpoint made at start that entered the phase a minute later. Its deadline is two minutes after start.
func checkpoint(phase v1alpha1.Phase, change ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
	deadline := metav1.NewTime(start.Add(2 * time.Minute))
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-1", CreationTimestamp: metav1.NewTime(start)},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: "cart-old", PodUID: "old", NodeName: "node-1", Reason: v1alpha1.ReasonEviction, Deadline: &deadline,
		},
	}
	if phase != "" {
		pc.Status.Enter(phase, "", start.Add(time.Minute))
	}
	for _, f := range change {
		f(pc)
	}
	return pc
}

func noDeadline(pc *v1alpha1.PodCheckpoint) { pc.Spec.Deadline = nil }

func TestNext(t *testing.T) {
	type outcome struct {
		Phase   v1alpha1.Phase
		Message string
		Outcome metrics.Outcome
		Event   string
		After   time.Duration
	}
	late := outcome{
		Phase: v1alpha1.PhaseFailed, Outcome: metrics.OutcomeFailed, Event: "CheckpointFailed",
		Message: "The deadline passed while the checkpoint was Dumping; the pod goes on without it",
	}
	for name, tc := range map[string]struct {
		pc   *v1alpha1.PodCheckpoint
		gone bool
		age  time.Duration
		want outcome
	}{
		"new":                      {pc: checkpoint(""), want: outcome{After: 2 * time.Minute}},
		"under way":                {pc: checkpoint(v1alpha1.PhaseDumping), age: 90 * time.Second, want: outcome{After: 30 * time.Second}},
		"under way, past deadline": {pc: checkpoint(v1alpha1.PhaseDumping), age: 2 * time.Minute, want: late},
		"never picked up": {
			pc: checkpoint(""), age: time.Hour,
			want: outcome{
				Phase: v1alpha1.PhaseFailed, Outcome: metrics.OutcomeFailed, Event: "CheckpointFailed",
				Message: "The deadline passed while the checkpoint was Pending; the pod goes on without it",
			},
		},
		"under way, no deadline": {pc: checkpoint(v1alpha1.PhaseDumping, noDeadline), age: 10 * time.Minute, want: outcome{After: 50 * time.Minute}},
		"under way, no deadline, a long freeze": {
			pc:  checkpoint(v1alpha1.PhaseDumping, noDeadline, func(pc *v1alpha1.PodCheckpoint) { pc.Spec.MaxFreezeSeconds = 1800 }),
			age: time.Hour, want: outcome{After: 30 * time.Minute},
		},
		"under way, no deadline, for ages": {pc: checkpoint(v1alpha1.PhaseDumping, noDeadline), age: time.Hour, want: late},
		"the pod is gone": {
			pc: checkpoint(v1alpha1.PhaseExporting), gone: true,
			want: outcome{
				Phase: v1alpha1.PhaseFailed, Outcome: metrics.OutcomeFailed, Event: "CheckpointFailed",
				Message: `Pod "cart-old" was gone before its checkpoint was ready; its replacement starts cold`,
			},
		},
		"ready, the pod is gone as it should": {pc: checkpoint(v1alpha1.PhaseReady), gone: true, age: time.Minute, want: outcome{After: time.Hour}},
		"ready, past deadline":                {pc: checkpoint(v1alpha1.PhaseReady), age: 3 * time.Minute, want: outcome{After: 58 * time.Minute}},
		"ready, nobody came": {
			pc: checkpoint(v1alpha1.PhaseReady), age: 61 * time.Minute,
			want: outcome{Phase: v1alpha1.PhaseExpired, Outcome: metrics.OutcomeExpired, Message: "No pod claimed the checkpoint for 1h0m0s"},
		},
		"on a schedule, its pod runs": {pc: checkpoint(v1alpha1.PhaseReady, onSchedule), age: 100 * time.Hour},
		"on a schedule, its pod is lost": {
			pc: checkpoint(v1alpha1.PhaseReady, onSchedule, lostAfter(10*time.Hour)), age: 10*time.Hour + time.Minute, want: outcome{After: 59 * time.Minute},
		},
		"on a schedule, its pod is lost, nobody came": {
			pc: checkpoint(v1alpha1.PhaseReady, onSchedule, lostAfter(10*time.Hour)), age: 11 * time.Hour,
			want: outcome{Phase: v1alpha1.PhaseExpired, Outcome: metrics.OutcomeExpired, Message: "No pod claimed the checkpoint for 1h0m0s"},
		},
		"on a schedule, under way": {
			pc: checkpoint(v1alpha1.PhaseExporting, onSchedule), age: 90 * time.Second, want: outcome{After: 30 * time.Second},
		},
		"claimed, for ages": {pc: checkpoint(v1alpha1.PhaseClaimed), age: 100 * time.Hour},
		"restored":          {pc: checkpoint(v1alpha1.PhaseRestored), age: 100 * time.Hour},
		"failed":            {pc: checkpoint(v1alpha1.PhaseFailed), gone: true, age: 100 * time.Hour},
		"released":          {pc: checkpoint(v1alpha1.PhaseReleased), age: 100 * time.Hour},
		"expired":           {pc: checkpoint(v1alpha1.PhaseExpired), age: 100 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			before := tc.pc.DeepCopy()
			step := expiry.Next(tc.pc, tc.gone, start.Add(tc.age), limits)
			got := outcome{Outcome: step.Outcome, Event: step.Event.Reason, After: step.After}
			if step.Status != nil {
				got.Phase, got.Message = step.Status.Phase, step.Status.Message
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("step (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tc.pc); diff != "" {
				t.Errorf("the PodCheckpoint given was changed:\n%s", diff)
			}
		})
	}
}

func onSchedule(pc *v1alpha1.PodCheckpoint) { pc.Spec.Reason = v1alpha1.ReasonSchedule }

// lostAfter has the checkpoint's pod known to be lost that long after start.
func lostAfter(after time.Duration) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) {
		pc.Status.Conditions = []metav1.Condition{{
			Type: v1alpha1.ConditionSourceLost, Status: metav1.ConditionTrue, LastTransitionTime: metav1.NewTime(start.Add(after)),
		}}
	}
}

func TestByName(t *testing.T) {
	for name, tc := range map[string]struct {
		change []func(*v1alpha1.PodCheckpoint)
		want   bool
	}{
		"fenced":                         {change: []func(*v1alpha1.PodCheckpoint){named}, want: true},
		"interchangeable":                {},
		"on a schedule, its pod runs":    {change: []func(*v1alpha1.PodCheckpoint){named, onSchedule}},
		"on a schedule, its pod is lost": {change: []func(*v1alpha1.PodCheckpoint){named, onSchedule, lostAfter(0)}, want: true},
	} {
		if got := expiry.ByName(checkpoint(v1alpha1.PhaseReady, tc.change...)); got != tc.want {
			t.Errorf("%s: ByName = %t, want %t", name, got, tc.want)
		}
	}
}
