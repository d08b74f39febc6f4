// SPDX-License-Identifier: Apache-2.0

package claim_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/claim"
	"github.com/cryopod/cryopod/pkg/metrics"
)

const unboundAfter = 75 * time.Second

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// claimed is a PodCheckpoint that was claimed at start, not bound yet.
func claimed(change ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-1"},
		Spec:       v1alpha1.PodCheckpointSpec{PodName: "cart-old", PodUID: "old", Reason: v1alpha1.ReasonEviction},
		Status: v1alpha1.PodCheckpointStatus{
			Phase: v1alpha1.PhaseClaimed,
			Owner: &v1alpha1.Owner{UID: "rs", APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart"},
			Claim: &v1alpha1.Claim{ID: "c1", Time: metav1.NewMicroTime(start)},
		},
	}
	for _, f := range change {
		f(pc)
	}
	return pc
}

func bound(pc *v1alpha1.PodCheckpoint) {
	pc.Status.Claim.PodName, pc.Status.Claim.PodUID = "cart-new", "new"
}

// replacement is a pod that carries the claim of that ID on cart-1.
func replacement(id string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "cart-new", UID: "new",
		Labels:      map[string]string{v1alpha1.LabelEnabled: "true", v1alpha1.LabelRestoring: "true"},
		Annotations: map[string]string{v1alpha1.AnnotationRestoreFrom: "cart-1", v1alpha1.AnnotationClaim: id},
	}}
	for _, f := range change {
		f(pod)
	}
	return pod
}

func TestNext(t *testing.T) {
	type outcome struct {
		Phase   v1alpha1.Phase
		Claim   *v1alpha1.Claim
		Outcome metrics.ClaimOutcome
		Lost    bool
		After   time.Duration
		Event   string
	}
	held := &v1alpha1.Claim{ID: "c1", Time: metav1.NewMicroTime(start), PodName: "cart-new", PodUID: "new"}
	onNode := held.DeepCopy()
	onNode.NodeName = "node-2"

	for name, tc := range map[string]struct {
		pc      *v1alpha1.PodCheckpoint
		carrier *corev1.Pod
		age     time.Duration
		want    outcome
	}{
		"another phase": {
			pc:      claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Phase = v1alpha1.PhaseRestored }),
			carrier: replacement("c1"),
		},
		"no pod yet": {
			pc: claimed(), age: 10 * time.Second,
			want: outcome{After: 65 * time.Second},
		},
		"the pod is there": {
			pc: claimed(), carrier: replacement("c1"),
			want: outcome{Phase: v1alpha1.PhaseClaimed, Claim: held, Outcome: metrics.ClaimBound, Event: "CheckpointClaimed"},
		},
		"the pod is there, on a node, however late": {
			pc: claimed(), age: time.Hour,
			carrier: replacement("c1", func(p *corev1.Pod) { p.Spec.NodeName = "node-2" }),
			want:    outcome{Phase: v1alpha1.PhaseClaimed, Claim: onNode, Outcome: metrics.ClaimBound, Event: "CheckpointClaimed"},
		},
		"the pod never came": {
			pc: claimed(), age: unboundAfter,
			want: outcome{Phase: v1alpha1.PhaseReady, Outcome: metrics.ClaimReturned},
		},
		"bound and there": {
			pc: claimed(bound), carrier: replacement("c1"), age: time.Hour,
		},
		"bound and gone": {
			pc: claimed(bound), age: time.Second,
			want: outcome{Phase: v1alpha1.PhaseFailed, Claim: held, Lost: true, Event: "RestoreFailed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := tc.pc.DeepCopy()
			step := claim.Next(tc.pc, tc.carrier, start.Add(tc.age), unboundAfter)
			got := outcome{Outcome: step.Outcome, Lost: step.Lost, After: step.After, Event: step.Event.Reason}
			if step.Status != nil {
				got.Phase, got.Claim = step.Status.Phase, step.Status.Claim
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

func TestCarries(t *testing.T) {
	for name, tc := range map[string]struct {
		pc   *v1alpha1.PodCheckpoint
		pod  *corev1.Pod
		want bool
	}{
		"its claim":                 {claimed(), replacement("c1"), true},
		"its claim, bound":          {claimed(bound), replacement("c1"), true},
		"another claim":             {claimed(), replacement("c0"), false},
		"bound to another pod":      {claimed(bound), replacement("c1", func(p *corev1.Pod) { p.UID = "copy" }), false},
		"another namespace":         {claimed(), replacement("c1", func(p *corev1.Pod) { p.Namespace = "other" }), false},
		"another PodCheckpoint":     {claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Name = "cart-2" }), replacement("c1"), false},
		"a PodCheckpoint unclaimed": {claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim = nil }), replacement(""), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := claim.Carries(tc.pod, tc.pc); got != tc.want {
				t.Errorf("Carries() = %v, want %v", got, tc.want)
			}
		})
	}
}

// TestBindTellsTheAge has a checkpoint that was made on a schedule: what its pod did afterwards is lost.
func TestBindTellsTheAge(t *testing.T) {
	pc := claimed(func(pc *v1alpha1.PodCheckpoint) {
		pc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionSourceLost, Status: metav1.ConditionTrue}}
		pc.Status.Timings = []v1alpha1.PhaseTiming{{Phase: v1alpha1.PhaseFreezing, Time: metav1.NewMicroTime(start.Add(-252 * time.Second))}}
	})
	const want = `Pod "cart-new" takes over from pod "cart-old" by PodCheckpoint "cart-1", which was 4m12s old when it was claimed ` +
		"(what happened since is lost); restoring it on the node that it is scheduled to"
	if got := claim.Next(pc, replacement("c1"), start.Add(time.Minute), unboundAfter).Event.Message; got != want {
		t.Errorf("the event says %q, want %q", got, want)
	}
}
