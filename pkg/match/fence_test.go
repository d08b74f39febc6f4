// SPDX-License-Identifier: Apache-2.0

package match_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// TestFence has checkpoints made at noon, with a deadline two minutes later.
func TestFence(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	made := func(phase v1alpha1.Phase, changes ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
		deadline := metav1.NewTime(noon.Add(2 * time.Minute))
		pc := &v1alpha1.PodCheckpoint{
			ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(noon)},
			Spec:       v1alpha1.PodCheckpointSpec{Fence: true, FenceSeconds: 30, Deadline: &deadline},
		}
		if phase != "" {
			pc.Status.Enter(phase, "", noon)
		}
		for _, c := range changes {
			c(pc)
		}
		return pc
	}
	seconds := func(n int32) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) { pc.Spec.FenceSeconds = n }
	}
	until := func(d time.Duration) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) {
			at := metav1.NewMicroTime(noon.Add(d))
			pc.Status.FrozenUntil = &at
		}
	}
	unfenced := func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Fence = false }
	noDeadline := func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Deadline = nil }
	for name, tc := range map[string]struct {
		pc            *v1alpha1.PodCheckpoint
		age           time.Duration
		holds, frozen bool
	}{
		"fresh":                        {pc: made(v1alpha1.PhaseReady), holds: true, frozen: true},
		"the last moment":              {pc: made(v1alpha1.PhaseReady), age: 28*time.Second - 1, holds: true, frozen: true},
		"too close to the end":         {pc: made(v1alpha1.PhaseReady), age: 28 * time.Second, frozen: true},
		"over":                         {pc: made(v1alpha1.PhaseReady), age: 30 * time.Second},
		"the default":                  {pc: made(v1alpha1.PhaseReady, seconds(0)), age: 27 * time.Second, holds: true, frozen: true},
		"a short one, the first half":  {pc: made(v1alpha1.PhaseReady, seconds(2)), age: time.Second - 1, holds: true, frozen: true},
		"a short one, the second half": {pc: made(v1alpha1.PhaseReady, seconds(2)), age: time.Second, frozen: true},
		"a probe bounds it":            {pc: made(v1alpha1.PhaseReady, until(10*time.Second)), age: 9 * time.Second, frozen: true},
		"a probe is far away":          {pc: made(v1alpha1.PhaseReady, until(time.Hour)), age: 9 * time.Second, holds: true, frozen: true},
		"not begun":                    {pc: made(""), frozen: true},
		"under way":                    {pc: made(v1alpha1.PhaseDumping), age: time.Minute, frozen: true},
		"under way, too late":          {pc: made(v1alpha1.PhaseDumping), age: 2 * time.Minute},
		"under way, no deadline":       {pc: made(v1alpha1.PhaseDumping, noDeadline), age: v1alpha1.DefaultDeadline - 1, frozen: true},
		"without a fence":              {pc: made(v1alpha1.PhaseDumping, unfenced), age: time.Minute},
		"claimed":                      {pc: made(v1alpha1.PhaseClaimed), age: time.Minute},
		"failed":                       {pc: made(v1alpha1.PhaseFailed), age: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			now := noon.Add(tc.age)
			if got := match.MayBeFrozen(tc.pc, now); got != tc.frozen {
				t.Errorf("MayBeFrozen = %v", got)
			}
			if got := match.FenceHolds(tc.pc, now); got != tc.holds && tc.pc.Status.Phase == v1alpha1.PhaseReady {
				t.Errorf("FenceHolds = %v", got)
			}
		})
	}
}
