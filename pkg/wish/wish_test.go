// SPDX-License-Identifier: Apache-2.0

package wish_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/wish"
)

// wishes is all that the package reads of one pod.
type wishes struct {
	On                  []v1alpha1.Trigger
	Deadline, MaxFreeze time.Duration
	OnFailure           string
	Interval            time.Duration
	Often               bool
	Value               int64
	Warnings            []string
}

func read(pod *corev1.Pod) wishes {
	w := wishes{
		On: sets.List(wish.On(pod)), Deadline: wish.Deadline(pod), MaxFreeze: wish.MaxFreeze(pod), OnFailure: wish.OnFailure(pod),
		Value: wish.Value(pod), Warnings: wish.Warnings(pod),
	}
	w.Interval, w.Often = wish.Interval(pod)
	return w
}

// usual is what counts where nothing is written.
func usual(change func(*wishes)) wishes {
	w := wishes{
		On:       []v1alpha1.Trigger{v1alpha1.TriggerEviction, v1alpha1.TriggerPreemption, v1alpha1.TriggerTermination},
		Deadline: 2 * time.Minute, MaxFreeze: time.Minute, OnFailure: v1alpha1.OnFailureEvict, Value: 100,
	}
	change(&w)
	return w
}

func TestWishes(t *testing.T) {
	type annotations = map[string]string
	for name, tc := range map[string]struct {
		written annotations
		want    wishes
	}{
		"nothing": {nil, usual(func(*wishes) {})},
		"all of it": {
			annotations{
				v1alpha1.AnnotationOn: "delete, eviction,delete", v1alpha1.AnnotationDeadline: "90s", v1alpha1.AnnotationMaxFreeze: "1h",
				v1alpha1.AnnotationOnFailure: "block", v1alpha1.AnnotationInterval: "10m", v1alpha1.AnnotationValue: "1000000",
			},
			wishes{
				On: []v1alpha1.Trigger{v1alpha1.TriggerDelete, v1alpha1.TriggerEviction}, Deadline: 90 * time.Second, MaxFreeze: time.Hour,
				OnFailure: v1alpha1.OnFailureBlock, Interval: 10 * time.Minute, Often: true, Value: 1_000_000,
			},
		},
		"the shortest": {
			annotations{v1alpha1.AnnotationMaxFreeze: "1s", v1alpha1.AnnotationInterval: "1m", v1alpha1.AnnotationValue: "1"},
			usual(func(w *wishes) { w.MaxFreeze, w.Interval, w.Often, w.Value = time.Second, time.Minute, true, 1 }),
		},
		"nothing that can be read": {
			annotations{
				v1alpha1.AnnotationOn: "evictoin", v1alpha1.AnnotationDeadline: "soon", v1alpha1.AnnotationMaxFreeze: "0s",
				v1alpha1.AnnotationOnFailure: "Block", v1alpha1.AnnotationInterval: "-10m", v1alpha1.AnnotationValue: "0",
			},
			usual(func(w *wishes) {
				w.Warnings = []string{
					`annotation "checkpoint.io/on": "evictoin" names none of eviction,termination,preemption,delete; eviction,termination,preemption is used`,
					`annotation "checkpoint.io/deadline": "soon" is no duration above 0, such as 90s; 2m0s is used`,
					`annotation "checkpoint.io/max-freeze": "0s" is no duration above 0, such as 90s; 1m0s is used`,
					`annotation "checkpoint.io/on-failure": "Block" is neither evict nor block; evict is used`,
					`annotation "checkpoint.io/interval": "-10m" is no duration above 0, such as 90s; none is used`,
					`annotation "checkpoint.io/value": "0" is no whole number from 1 to 1000000; 100 is used`,
				}
			}),
		},
		"out of bounds": {
			annotations{
				v1alpha1.AnnotationOn: "", v1alpha1.AnnotationMaxFreeze: "2h", v1alpha1.AnnotationInterval: "1s", v1alpha1.AnnotationValue: "1000001",
			},
			usual(func(w *wishes) {
				w.MaxFreeze, w.Interval, w.Often = time.Hour, time.Minute, true
				w.Warnings = []string{
					`annotation "checkpoint.io/on": "" names none of eviction,termination,preemption,delete; eviction,termination,preemption is used`,
					`annotation "checkpoint.io/max-freeze": 2h0m0s is not between 1s and 1h0m0s; 1h0m0s is used`,
					`annotation "checkpoint.io/interval": 1s is below 1m0s, which is used`,
					`annotation "checkpoint.io/value": "1000001" is no whole number from 1 to 1000000; 100 is used`,
				}
			}),
		},
		"one trigger of two is known": {
			annotations{v1alpha1.AnnotationOn: "delete,drain,"},
			usual(func(w *wishes) {
				w.On = []v1alpha1.Trigger{v1alpha1.TriggerDelete}
				w.Warnings = []string{
					`annotation "checkpoint.io/on": ["drain"] is none of eviction,termination,preemption,delete; delete is used`,
				}
			}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: tc.written}}
			if diff := cmp.Diff(tc.want, read(pod)); diff != "" {
				t.Errorf("wishes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTriggered(t *testing.T) {
	pod := &corev1.Pod{}
	for by, want := range map[v1alpha1.Trigger]bool{
		v1alpha1.TriggerEviction: true, v1alpha1.TriggerTermination: true, v1alpha1.TriggerPreemption: true, v1alpha1.TriggerDelete: false,
	} {
		if got := wish.Triggered(pod, by); got != want {
			t.Errorf("%s: %v, want %v", by, got, want)
		}
	}
}
