// SPDX-License-Identifier: Apache-2.0

package evictionrequest_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	lifecyclev1alpha1 "k8s.io/api/lifecycle/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/evictionrequest"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// eviction is one whose turn is Cryopod's since start, without any sign of it yet.
func eviction(changes ...func(*lifecyclev1alpha1.Eviction)) *lifecyclev1alpha1.Eviction {
	const other = lifecyclev1alpha1.EvictionResponderImperativeEviction
	ev := &lifecyclev1alpha1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-eviction"},
		Spec: lifecyclev1alpha1.EvictionSpec{Target: lifecyclev1alpha1.EvictionTarget{
			Pod: &lifecyclev1alpha1.EvictionPodReference{Name: "cart", UID: "uid"},
		}},
		Status: lifecyclev1alpha1.EvictionStatus{
			TargetResponders: []lifecyclev1alpha1.TargetResponder{
				{Name: other, Priority: ptr.To[int32](100), State: lifecyclev1alpha1.ResponderStateInactive},
				{Name: "checkpoint.io/responder", Priority: ptr.To[int32](20000), State: lifecyclev1alpha1.ResponderStateActive},
			},
			Responders: []lifecyclev1alpha1.ResponderStatus{
				{Name: other}, {Name: "checkpoint.io/responder", StartTime: ptr.To(metav1.NewTime(start))},
			},
		},
	}
	for _, f := range changes {
		f(ev)
	}
	return ev
}

func state(s lifecyclev1alpha1.ResponderStateType) func(*lifecyclev1alpha1.Eviction) {
	return func(ev *lifecyclev1alpha1.Eviction) { ev.Status.TargetResponders[1].State = s }
}

func beat(after time.Duration) func(*lifecyclev1alpha1.Eviction) {
	return func(ev *lifecyclev1alpha1.Eviction) {
		ev.Status.Responders[1].HeartbeatTime = ptr.To(metav1.NewTime(start.Add(after)))
	}
}

func pod(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "uid", Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true"}},
		Spec:       corev1.PodSpec{NodeName: "node-1"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, f := range changes {
		f(p)
	}
	return p
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[key] = value }
}

// checkpoint is the pod's first, made so long after start.
func checkpoint(after time.Duration, phase v1alpha1.Phase) v1alpha1.PodCheckpoint {
	pc := match.NewCheckpoint(pod(), match.Request{Attempt: 1, Reason: v1alpha1.ReasonEviction, Deadline: start.Add(after + time.Minute), Fence: true})
	pc.Name = "cart-1"
	pc.CreationTimestamp = metav1.NewTime(start.Add(after))
	pc.Status.Phase, pc.Status.Message = phase, "criu: no"
	return *pc
}

func TestNext(t *testing.T) {
	const failed = v1alpha1.PhaseFailed
	one := func(after time.Duration, phase v1alpha1.Phase) []v1alpha1.PodCheckpoint {
		return []v1alpha1.PodCheckpoint{checkpoint(after, phase)}
	}
	begun := evictionrequest.Step{Action: evictionrequest.Report, Message: "the pod is to be saved", Expected: start.Add(10*time.Second + 2*time.Minute)}
	evict := evictionrequest.Step{Action: evictionrequest.Evict}
	gone := evictionrequest.Step{Action: evictionrequest.Complete, Message: "the pod has gone", Outcome: metrics.ResponseGone}
	over := func(why string) evictionrequest.Step {
		return evictionrequest.Step{Action: evictionrequest.Complete, Message: why + "; the next responder goes on", Outcome: metrics.ResponseHandedOver}
	}
	for name, tc := range map[string]struct {
		eviction    *lifecyclev1alpha1.Eviction
		pod         *corev1.Pod
		checkpoints []v1alpha1.PodCheckpoint
		want        evictionrequest.Step
	}{
		"not our turn yet": {eviction: eviction(state(lifecyclev1alpha1.ResponderStateInactive)), pod: pod()},
		"called off":       {eviction: eviction(state(lifecyclev1alpha1.ResponderStateCanceled)), pod: pod(), checkpoints: one(0, v1alpha1.PhaseReady)},
		"over": {
			eviction: eviction(func(ev *lifecyclev1alpha1.Eviction) {
				ev.Status.Responders[1].CompletionTime = ptr.To(metav1.NewTime(start))
			}),
			pod: pod(),
		},
		"not initialized": {eviction: &lifecyclev1alpha1.Eviction{}, pod: pod()},
		"begins":          {eviction: eviction(), pod: pod(), want: begun},
		"told, then evicted": {
			eviction: eviction(beat(0)), pod: pod(), want: evict,
		},
		"being saved": {
			eviction: eviction(beat(0)), pod: pod(), checkpoints: one(0, v1alpha1.PhaseDumping), want: evict,
		},
		"being saved for long": {
			eviction: eviction(beat(-20 * time.Second)), pod: pod(), checkpoints: one(0, v1alpha1.PhaseExporting),
			want: evictionrequest.Step{Action: evictionrequest.Report, Message: "PodCheckpoint cart-1 is Exporting", Expected: start.Add(time.Minute)},
		},
		"its deadline is over": {
			eviction: eviction(beat(-20 * time.Second)), pod: pod(), checkpoints: one(-2*time.Minute, ""),
			want: evictionrequest.Step{Action: evictionrequest.Report, Message: "PodCheckpoint cart-1 is Pending", Expected: begun.Expected},
		},
		"saved": {
			eviction: eviction(beat(0)), pod: pod(), checkpoints: one(0, v1alpha1.PhaseReady), want: evict,
		},
		"failed": {
			eviction: eviction(beat(0)), pod: pod(), checkpoints: one(0, failed), want: over("criu: no"),
		},
		"failed, but not for this eviction": {
			eviction: eviction(beat(0)), pod: pod(), checkpoints: one(-time.Second, failed), want: evict,
		},
		"failed, and is to be tried again": {
			eviction: eviction(beat(0)), pod: pod(annotated(v1alpha1.AnnotationOnFailure, "block")), checkpoints: one(0, failed), want: evict,
		},
		"evictions don't count": {eviction: eviction(), pod: pod(annotated(v1alpha1.AnnotationOn, "delete")), want: over("its annotation checkpoint.io/on leaves evictions out")},
		"not ours":              {eviction: eviction(), pod: pod(annotated(v1alpha1.AnnotationEnabled, "no")), want: over("the pod is not opted in to Cryopod")},
		"gone":                  {eviction: eviction(beat(0)), want: gone},
		"on its way":            {eviction: eviction(beat(0)), pod: pod(func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: start} }), want: gone},
		"ended":                 {eviction: eviction(beat(0)), pod: pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), want: gone},
	} {
		t.Run(name, func(t *testing.T) {
			got := evictionrequest.Next(evictionrequest.Case{
				Eviction: tc.eviction, Pod: tc.pod, Checkpoints: tc.checkpoints, Now: start.Add(10 * time.Second),
			})
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("step (-want +got):\n%s", diff)
			}
		})
	}
}
