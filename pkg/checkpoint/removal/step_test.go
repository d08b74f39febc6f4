// SPDX-License-Identifier: Apache-2.0

package removal_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/removal"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// checkpoint is one made at start that entered the phase 10 s later. Its deadline is two minutes after start, its fence 30 s.
func checkpoint(phase v1alpha1.Phase, changes ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
	deadline := metav1.NewTime(start.Add(2 * time.Minute))
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-1", CreationTimestamp: metav1.NewTime(start)},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: "cart", PodUID: "uid", NodeName: "node-1", Reason: v1alpha1.ReasonTermination, Deadline: &deadline,
			Fence: true, FenceSeconds: 30, Removal: v1alpha1.RemovalDelete,
		},
	}
	if phase != "" {
		pc.Status.Enter(phase, "", start.Add(10*time.Second))
	}
	for _, c := range changes {
		c(pc)
	}
	return pc
}

func saying(text string) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) { pc.Status.Message = text }
}

func because(reason string) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) {
		pc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason}}
	}
}

func source(changes ...func(*corev1.Pod)) *corev1.Pod {
	yes := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "cart", UID: "uid",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "carts", UID: "rs", Controller: &yes}},
		},
		Spec:   corev1.PodSpec{NodeName: "node-1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, c := range changes {
		c(pod)
	}
	return pod
}

func TestNext(t *testing.T) {
	const late = "needs 41 s, 12 s are left"
	terminating := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: start} }
	gone := removal.Step{Remove: true}
	overdue := removal.Step{Remove: true, Overdue: true, Cold: "nobody ended the pod in time after its checkpoint, and the deadline is over"}
	for name, tc := range map[string]struct {
		pc   *v1alpha1.PodCheckpoint
		pod  *corev1.Pod
		age  time.Duration
		want removal.Step
	}{
		"not begun":              {pc: checkpoint(""), pod: source(), age: 11 * time.Second},
		"under way":              {pc: checkpoint(v1alpha1.PhaseExporting), pod: source(), age: 11 * time.Second},
		"under way for too long": {pc: checkpoint(v1alpha1.PhaseExporting), pod: source(), age: 3 * time.Minute},
		"ready":                  {pc: checkpoint(v1alpha1.PhaseReady), pod: source(), age: 11 * time.Second, want: gone},
		"ready, long enough":     {pc: checkpoint(v1alpha1.PhaseReady), pod: source(), age: 37 * time.Second, want: gone},
		"ready, about to thaw":   {pc: checkpoint(v1alpha1.PhaseReady), pod: source(), age: 39 * time.Second, want: removal.Step{After: 11 * time.Second}},
		"ready, its agent away":  {pc: checkpoint(v1alpha1.PhaseReady), pod: source(), age: 50 * time.Second, want: gone},
		"ready, without a fence": {
			pc: checkpoint(v1alpha1.PhaseReady, func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Fence = false }), pod: source(), age: 11 * time.Second,
		},
		"ready, a probe ends the fence": {
			pc: checkpoint(v1alpha1.PhaseReady, func(pc *v1alpha1.PodCheckpoint) {
				pc.Status.FrozenUntil = &metav1.MicroTime{Time: start.Add(20 * time.Second)}
			}), pod: source(), age: 19 * time.Second, want: removal.Step{After: 11 * time.Second},
		},
		"claimed":           {pc: checkpoint(v1alpha1.PhaseClaimed), pod: source(), age: time.Minute, want: gone},
		"failed":            {pc: checkpoint(v1alpha1.PhaseFailed, saying(late), because(v1alpha1.ReasonNoTime)), pod: source(), age: 11 * time.Second, want: removal.Step{Remove: true, Cold: late}},
		"failed, no words":  {pc: checkpoint(v1alpha1.PhaseFailed), pod: source(), age: 11 * time.Second, want: removal.Step{Remove: true, Cold: "the checkpoint failed"}},
		"failed at the end": {pc: checkpoint(v1alpha1.PhaseFailed, saying(late)), pod: source(), age: 2 * time.Minute, want: removal.Step{Remove: true, Cold: late}},
		"failed long ago":   {pc: checkpoint(v1alpha1.PhaseFailed, saying(late)), pod: source(), age: 3 * time.Minute, want: removal.Step{After: time.Minute}},
		"frozen for too long": {
			pc: checkpoint(v1alpha1.PhaseReleased, saying("stood still for 60 s"), because(v1alpha1.ReasonMaxFreeze)), pod: source(), age: 11 * time.Second,
			want: removal.Step{Remove: true, Cold: "stood still for 60 s"},
		},
		"released":               {pc: checkpoint(v1alpha1.PhaseReleased, because("Released")), pod: source(), age: 41 * time.Second, want: removal.Step{After: 79 * time.Second}},
		"released, at the end":   {pc: checkpoint(v1alpha1.PhaseReleased, because("Released")), pod: source(), age: 2 * time.Minute, want: overdue},
		"released long ago":      {pc: checkpoint(v1alpha1.PhaseReleased, because("Released")), pod: source(), age: 3 * time.Minute, want: removal.Step{After: time.Minute}},
		"called off, at the end": {pc: checkpoint(v1alpha1.PhaseReleased, because(v1alpha1.ReasonCalledOff)), pod: source(), age: 2 * time.Minute},
		"released, to be evicted": {
			pc:  checkpoint(v1alpha1.PhaseReleased, because("Released"), func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Removal = v1alpha1.RemovalEvict }),
			pod: source(), age: 2 * time.Minute,
		},
		"expired":              {pc: checkpoint(v1alpha1.PhaseExpired), pod: source(), age: 41 * time.Second},
		"no pod":               {pc: checkpoint(v1alpha1.PhaseReady), age: 11 * time.Second},
		"another pod":          {pc: checkpoint(v1alpha1.PhaseReady), pod: source(func(p *corev1.Pod) { p.UID = "other" }), age: 11 * time.Second},
		"the pod goes already": {pc: checkpoint(v1alpha1.PhaseReady), pod: source(terminating), age: 11 * time.Second},
		"the pod has ended":    {pc: checkpoint(v1alpha1.PhaseFailed), pod: source(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), age: 11 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, removal.Next(tc.pc, tc.pod, start.Add(tc.age))); diff != "" {
				t.Errorf("step (-want +got):\n%s", diff)
			}
		})
	}
}
