// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// running is an opted-in pod of a ReplicaSet that can be checkpointed.
func running(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "web-0", UID: "p1", Labels: map[string]string{"app": "web", v1alpha1.LabelEnabled: "true"},
			Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true"},
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "o1", Controller: ptr.To(true)},
			},
		},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "main", Image: "app:1"}}},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{
				{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			},
		},
	}
	for _, c := range changes {
		c(pod)
	}
	return pod
}

// attempt is a PodCheckpoint of running(), made age ago with the default deadline.
func attempt(n int, phase v1alpha1.Phase, age time.Duration, changes ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
	made := now.Add(-age)
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: match.Name(running(), n), CreationTimestamp: metav1.NewTime(made),
			Labels: map[string]string{v1alpha1.LabelPodUID: "p1", v1alpha1.LabelOwnerUID: "o1"},
		},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: "web-0", PodUID: "p1", NodeName: "n1", Reason: v1alpha1.ReasonEviction, Fence: true,
			Deadline: ptr.To(metav1.NewTime(made.Add(v1alpha1.DefaultDeadline))),
		},
		Status: v1alpha1.PodCheckpointStatus{Phase: phase},
	}
	for _, c := range changes {
		c(pc)
	}
	return pc
}

func canCheckpoint() *v1alpha1.NodeProfile {
	return &v1alpha1.NodeProfile{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Status: v1alpha1.NodeProfileStatus{Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionCanCheckpoint, Status: metav1.ConditionTrue},
		}},
	}
}

func TestDecide(t *testing.T) {
	const sec = time.Second
	hold := now.Add(20 * sec)
	saved := func(pc *v1alpha1.PodCheckpoint) { pc.Status.Message = "criu: unsupported socket" }
	deadlineAt := func(at time.Time) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Deadline = ptr.To(metav1.NewTime(at)) }
	}
	sameDeadline := deadlineAt(now.Add(30 * sec))
	fenceOf := func(seconds int32) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) { pc.Spec.FenceSeconds = seconds }
	}
	byHand := func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Fence = false }
	one := func(pcs ...*v1alpha1.PodCheckpoint) func(*admission.Case) {
		return func(c *admission.Case) { c.Checkpoints = pcs }
	}
	of := func(change func(*corev1.Pod)) func(*admission.Case) {
		return func(c *admission.Case) { change(c.Pod) }
	}
	refusing := func(c *admission.Case) { c.Budgets = []policyv1.PodDisruptionBudget{budget(0, 2, 2)} }

	deleted := func(c *admission.Case) { c.Trigger, c.Removal = v1alpha1.TriggerDelete, v1alpha1.RemovalDelete }
	ends := func(in time.Duration) func(*admission.Case) { return func(c *admission.Case) { c.Limit = now.Add(in) } }
	block := of(annotate(v1alpha1.AnnotationOnFailure, v1alpha1.OnFailureBlock))
	because := func(reason string) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) {
			pc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason}}
		}
	}
	failedAgo := func(d time.Duration) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) {
			pc.Status.Timings = []v1alpha1.PhaseTiming{{Phase: v1alpha1.PhaseFailed, Time: metav1.NewMicroTime(now.Add(-d))}}
		}
	}

	type want struct {
		Action  admission.Action
		Outcome metrics.EvictionDecision
		Attempt int
		// Left is the time from now to Decision.Deadline or Decision.Until.
		Left time.Duration
	}
	untouched := want{Action: admission.Allow, Outcome: metrics.EvictionUntouched}
	cold := want{Action: admission.Allow, Outcome: metrics.EvictionCold}
	late := want{Action: admission.Allow, Outcome: metrics.EvictionLate}
	dry := want{Action: admission.Allow, Outcome: metrics.EvictionDryRun}
	refused := want{Action: admission.Allow, Outcome: metrics.EvictionBudget}
	save := want{Action: admission.AllowSaved, Outcome: metrics.EvictionSaved}

	tests := map[string]struct {
		change []func(*admission.Case)
		want   want
		why    string
	}{
		"begin": {want: want{Action: admission.Begin, Attempt: 1, Left: 120 * sec}},
		"own deadline": {
			change: []func(*admission.Case){of(annotate(v1alpha1.AnnotationDeadline, "45s"))},
			want:   want{Action: admission.Begin, Attempt: 1, Left: 45 * sec},
		},
		"nonsense for a deadline": {
			change: []func(*admission.Case){of(annotate(v1alpha1.AnnotationDeadline, "-5s"))},
			want:   want{Action: admission.Begin, Attempt: 1, Left: 120 * sec},
		},

		"dry run of the request": {change: []func(*admission.Case){func(c *admission.Case) { c.DryRun = true }}, want: dry},
		"dry run in the options": {
			change: []func(*admission.Case){func(c *admission.Case) {
				c.Delete = &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
			}},
			want: dry,
		},
		"dry run of a saved pod": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 5*sec)), func(c *admission.Case) { c.DryRun = true }},
			want:   dry,
		},
		"not annotated":     {change: []func(*admission.Case){of(func(p *corev1.Pod) { p.Annotations = nil })}, want: untouched},
		"annotated false":   {change: []func(*admission.Case){of(annotate(v1alpha1.AnnotationEnabled, "false"))}, want: untouched},
		"terminating":       {change: []func(*admission.Case){of(func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} })}, want: untouched},
		"pod pending":       {change: []func(*admission.Case){of(podPhase(corev1.PodPending))}, want: untouched},
		"succeeded":         {change: []func(*admission.Case){of(podPhase(corev1.PodSucceeded))}, want: untouched},
		"pod failed":        {change: []func(*admission.Case){of(podPhase(corev1.PodFailed))}, want: untouched},
		"unscheduled":       {change: []func(*admission.Case){of(func(p *corev1.Pod) { p.Spec.NodeName = "" })}, want: untouched},
		"meant another pod": {change: []func(*admission.Case){precondition("p0")}, want: untouched},
		"meant this pod":    {change: []func(*admission.Case){precondition("p1")}, want: want{Action: admission.Begin, Attempt: 1, Left: 120 * sec}},

		"no controller": {change: []func(*admission.Case){of(func(p *corev1.Pod) { p.OwnerReferences = nil })}, want: untouched, why: "no controller"},
		"daemon":        {change: []func(*admission.Case){of(func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "DaemonSet" })}, want: untouched, why: "DaemonSet"},
		"a dead node":   {change: []func(*admission.Case){func(c *admission.Case) { c.Silent = true }}, want: untouched, why: `node "n1" does not answer`},
		"a dead node, and it is saved": {
			change: []func(*admission.Case){func(c *admission.Case) { c.Silent = true }, one(attempt(1, v1alpha1.PhaseReady, sec))}, want: save,
		},
		"no agent":     {change: []func(*admission.Case){func(c *admission.Case) { c.Profile = nil }}, want: untouched, why: `node "n1" has no Cryopod agent`},
		"nothing runs": {change: []func(*admission.Case){of(func(p *corev1.Pod) { p.Status.ContainerStatuses = nil })}, want: untouched, why: "none of its containers"},

		"a budget refuses":              {change: []func(*admission.Case){refusing}, want: refused},
		"a budget refuses a cold one":   {change: []func(*admission.Case){refusing, one(attempt(1, v1alpha1.PhaseFailed, sec))}, want: refused},
		"a budget refuses, pod is left": {change: []func(*admission.Case){refusing, one(attempt(1, v1alpha1.PhaseReady, sec))}, want: save},

		"ready": {change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 5*sec))}, want: save},
		"ready, its fence is almost over": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 28*sec))}, want: want{Action: admission.Wait, Left: 12 * sec},
		},
		"ready, its fence is over": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 39*sec))}, want: want{Action: admission.Wait, Left: sec},
		},
		"ready, its fence is almost over, held for long enough": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 29*sec)), func(c *admission.Case) { c.HoldUntil = now }},
			want:   want{Action: admission.PutOff, Outcome: metrics.EvictionPutOff, Left: 11 * sec},
		},
		"ready, its fence is almost over, and so is the deadline": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 29*sec, deadlineAt(now.Add(5*sec))))},
			want:   want{Action: admission.Wait, Left: 5 * sec},
		},
		"ready, its fence is over and so is the deadline": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 31*sec, deadlineAt(now)))}, want: save,
		},
		"ready, its agent is away":   {change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 40*sec))}, want: save},
		"ready, with time to let go": {change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 27999*time.Millisecond))}, want: save},
		"ready, with a short fence": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 400*time.Millisecond, fenceOf(1)))}, want: save,
		},
		"ready, the short fence is almost over": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 600*time.Millisecond, fenceOf(1)))},
			want:   want{Action: admission.Wait, Left: 10400 * time.Millisecond},
		},
		"claimed":  {change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseClaimed, 5*sec))}, want: save},
		"restored": {change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseRestored, 5*sec))}, want: save},
		"ready, and past the deadline": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 125*sec))}, want: save,
		},
		"failed": {change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseFailed, 5*sec, saved))}, want: cold, why: "criu: unsupported socket"},
		"failed and says nothing": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseFailed, 5*sec))}, want: cold, why: "the checkpoint failed",
		},
		"failed a minute ago, tried again": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseFailed, 179*sec))}, want: cold, why: "the checkpoint failed",
		},
		"failed in an eviction of long ago": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseFailed, 180*sec))},
			want:   want{Action: admission.Begin, Attempt: 2, Left: 120 * sec},
		},

		"released, time is left": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReleased, 50*sec))},
			want:   want{Action: admission.Begin, Attempt: 2, Left: 70 * sec},
		},
		"released, no time is left": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReleased, 120*sec))}, want: late, why: "not deleted in time",
		},
		"released in an eviction of long ago": {
			change: []func(*admission.Case){one(attempt(3, v1alpha1.PhaseReleased, time.Hour))},
			want:   want{Action: admission.Begin, Attempt: 4, Left: 120 * sec},
		},
		"expired": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseExpired, 50*sec))},
			want:   want{Action: admission.Begin, Attempt: 2, Left: 70 * sec},
		},
		"released twice": {
			change: []func(*admission.Case){one(attempt(2, v1alpha1.PhaseReleased, sec, sameDeadline), attempt(1, v1alpha1.PhaseReleased, sec, sameDeadline))},
			want:   want{Action: admission.Begin, Attempt: 3, Left: 30 * sec},
		},
		"released three times": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReleased, sec, sameDeadline),
				attempt(3, v1alpha1.PhaseReleased, sec, sameDeadline), attempt(2, v1alpha1.PhaseReleased, sec, sameDeadline))},
			want: cold, why: "after any of 3 checkpoints",
		},
		"released three times, long apart": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReleased, time.Hour),
				attempt(2, v1alpha1.PhaseReleased, 2*time.Hour), attempt(3, v1alpha1.PhaseReleased, 10*sec))},
			want: want{Action: admission.Begin, Attempt: 4, Left: 110 * sec},
		},
		"the latest attempt counts": {
			change: []func(*admission.Case){one(attempt(2, v1alpha1.PhaseReady, 10*sec), attempt(1, v1alpha1.PhaseReleased, 50*sec))}, want: save,
		},
		"one that freezes nothing is no reason to go": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 10*sec, byHand))},
			want:   want{Action: admission.Begin, Attempt: 2, Left: 120 * sec},
		},

		"not for evictions": {change: []func(*admission.Case){of(annotate(v1alpha1.AnnotationOn, "delete"))}, want: untouched},
		"not for evictions, being saved for another reason": {
			change: []func(*admission.Case){of(annotate(v1alpha1.AnnotationOn, "termination")), one(attempt(1, v1alpha1.PhaseDumping, 3*sec))},
			want:   want{Action: admission.Wait, Left: 20 * sec},
		},
		"not for evictions, saved for another reason": {
			change: []func(*admission.Case){of(annotate(v1alpha1.AnnotationOn, "termination")), one(attempt(1, v1alpha1.PhaseReady, 3*sec))}, want: save,
		},
		"not for evictions, and another attempt is over": {
			change: []func(*admission.Case){of(annotate(v1alpha1.AnnotationOn, "termination")), one(attempt(1, v1alpha1.PhaseReleased, 3*sec))},
			want:   untouched,
		},
		"somebody deletes it":                {change: []func(*admission.Case){deleted}, want: untouched},
		"somebody deletes it as it is saved": {change: []func(*admission.Case){deleted, one(attempt(1, v1alpha1.PhaseDumping, 3*sec))}, want: untouched},
		"somebody deletes it, to be saved": {
			change: []func(*admission.Case){deleted, of(annotate(v1alpha1.AnnotationOn, "delete"))},
			want:   want{Action: admission.Begin, Attempt: 1, Left: 120 * sec},
		},
		"meant another state of it": {
			change: []func(*admission.Case){func(c *admission.Case) {
				c.Delete = &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: ptr.To("1")}}
			}},
			want: untouched,
		},

		"its node ends before":    {change: []func(*admission.Case){ends(30 * sec)}, want: want{Action: admission.Begin, Attempt: 1, Left: 30 * sec}},
		"its node ends after":     {change: []func(*admission.Case){ends(130 * sec)}, want: want{Action: admission.Begin, Attempt: 1, Left: 120 * sec}},
		"its node should be gone": {change: []func(*admission.Case){ends(0)}, want: late, why: "left to its node is over"},
		"dumping, its node ends before": {
			change: []func(*admission.Case){ends(5 * sec), one(attempt(1, v1alpha1.PhaseDumping, 3*sec))}, want: want{Action: admission.Wait, Left: 5 * sec},
		},
		"dumping, its node should be gone": {
			change: []func(*admission.Case){ends(0), one(attempt(1, v1alpha1.PhaseDumping, 3*sec))}, want: late, why: "not ready before the deadline",
		},

		"stood still for too long": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReleased, 70*sec, saved, because(v1alpha1.ReasonMaxFreeze)))},
			want:   cold, why: "criu: unsupported socket",
		},
		"no time": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseFailed, sec, saved, because(v1alpha1.ReasonNoTime)))},
			want:   cold, why: "criu: unsupported socket",
		},
		"failed a moment ago, and blocks": {
			change: []func(*admission.Case){block, one(attempt(1, v1alpha1.PhaseFailed, 10*sec, saved, failedAgo(2*sec)))},
			want:   want{Action: admission.PutOff, Outcome: metrics.EvictionPutOff, Left: 3 * sec}, why: "criu: unsupported socket",
		},
		"failed, and blocks": {
			change: []func(*admission.Case){block, one(attempt(1, v1alpha1.PhaseFailed, 10*sec, saved, failedAgo(5*sec)))},
			want:   want{Action: admission.Begin, Attempt: 2, Left: 110 * sec},
		},
		"failed twice, and blocks": {
			change: []func(*admission.Case){block, one(attempt(2, v1alpha1.PhaseFailed, 30*sec, saved, sameDeadline, failedAgo(5*sec)),
				attempt(1, v1alpha1.PhaseFailed, 60*sec, sameDeadline))},
			want: want{Action: admission.PutOff, Outcome: metrics.EvictionPutOff, Left: 5 * sec}, why: "criu: unsupported socket",
		},
		"failed for lack of time, and blocks": {
			change: []func(*admission.Case){block, one(attempt(1, v1alpha1.PhaseFailed, 10*sec, saved, because(v1alpha1.ReasonNoTime), failedAgo(5*sec)))},
			want:   want{Action: admission.Begin, Attempt: 2, Left: 110 * sec},
		},
		"failed, blocks, and the deadline is over": {
			change: []func(*admission.Case){block, one(attempt(1, v1alpha1.PhaseFailed, 120*sec, saved))}, want: cold, why: "criu: unsupported socket",
		},
		"failed, blocks, and it is deleted in any case": {
			change: []func(*admission.Case){block, func(c *admission.Case) { c.Removal = v1alpha1.RemovalDelete }, one(attempt(1, v1alpha1.PhaseFailed, sec, saved))},
			want:   cold, why: "criu: unsupported socket",
		},
		"stood still for too long, and blocks": {
			change: []func(*admission.Case){block, one(attempt(1, v1alpha1.PhaseReleased, 70*sec, saved, because(v1alpha1.ReasonMaxFreeze)))},
			want:   want{Action: admission.PutOff, Outcome: metrics.EvictionPutOff, Left: 50 * sec}, why: "criu: unsupported socket",
		},
		"stood still for too long, blocks, and the deadline is over": {
			change: []func(*admission.Case){block, one(attempt(1, v1alpha1.PhaseReleased, 120*sec, saved, because(v1alpha1.ReasonMaxFreeze)))},
			want:   cold, why: "criu: unsupported socket",
		},
		"ready, a probe ends its fence soon": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseReady, 5*sec, func(pc *v1alpha1.PodCheckpoint) {
				pc.Status.FrozenUntil = ptr.To(metav1.NewMicroTime(now.Add(sec)))
			}))},
			want: want{Action: admission.Wait, Left: 11 * sec},
		},

		"in its node's queue": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhasePending, 60*sec))}, want: want{Action: admission.Wait, Left: 20 * sec},
		},
		"pending, unsaid":  {change: []func(*admission.Case){one(attempt(1, "", 3*sec))}, want: want{Action: admission.Wait, Left: 7 * sec}},
		"pending too long": {change: []func(*admission.Case){one(attempt(1, "", 10*sec))}, want: want{Action: admission.GiveUp}, why: "did not answer within 10s"},
		"freezing":         {change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseFreezing, 3*sec))}, want: want{Action: admission.Wait, Left: 20 * sec}},
		"dumping, the deadline comes first": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseDumping, 112*sec))}, want: want{Action: admission.Wait, Left: 8 * sec},
		},
		"exporting, held for long enough": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseExporting, 100*sec)), func(c *admission.Case) { c.HoldUntil = now }},
			want:   want{Action: admission.PutOff, Outcome: metrics.EvictionPutOff, Left: 20 * sec},
		},
		"exporting, and past the deadline": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhaseExporting, 120*sec)), func(c *admission.Case) { c.HoldUntil = now }},
			want:   late, why: "not ready before the deadline",
		},
		"pending, and past the deadline": {
			change: []func(*admission.Case){one(attempt(1, v1alpha1.PhasePending, 120*sec))}, want: late, why: "not ready before the deadline",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := admission.Case{
				Pod: running(), Trigger: v1alpha1.TriggerEviction, Removal: v1alpha1.RemovalNone, Profile: canCheckpoint(), Now: now, HoldUntil: hold, PickupTimeout: 10 * sec, MaxAttempts: 3,
			}
			for _, change := range tc.change {
				change(&c)
			}
			d := admission.Decide(c)
			got := want{Action: d.Action, Outcome: d.Outcome, Attempt: d.Attempt}
			switch {
			case !d.Deadline.IsZero():
				got.Left = d.Deadline.Sub(now)
			case !d.Until.IsZero():
				got.Left = d.Until.Sub(now)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("Decide (-want +got):\n%s", diff)
			}
			if (tc.why == "") != (d.Why == "") || !strings.Contains(d.Why, tc.why) {
				t.Errorf("Decide says why: %q, want …%s…", d.Why, tc.why)
			}
			if tc.want.Action == admission.Wait || tc.want.Action == admission.PutOff || tc.want.Action == admission.GiveUp {
				if d.Checkpoint != c.Checkpoints[0] {
					t.Errorf("Decide names the checkpoint %v", d.Checkpoint)
				}
			}
		})
	}
}
