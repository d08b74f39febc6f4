// SPDX-License-Identifier: Apache-2.0

package match_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

func TestNewCheckpoint(t *testing.T) {
	deadline := time.Date(2026, 7, 1, 12, 2, 0, 0, time.UTC)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-1", UID: "pod-uid",
			Annotations: map[string]string{v1alpha1.AnnotationMaxFreeze: "90s", v1alpha1.AnnotationValue: "7"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "owner-uid", Controller: ptr.To(true),
			}},
		},
		Spec: corev1.PodSpec{NodeName: "node-1", Priority: ptr.To(int32(1000))},
	}
	got := match.NewCheckpoint(pod, match.Request{
		Attempt: 2, Reason: v1alpha1.ReasonTermination, Deadline: deadline, Fence: true, Removal: v1alpha1.RemovalDelete,
	})
	want := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: match.Name(pod, 2),
			Labels:          map[string]string{v1alpha1.LabelOwnerUID: "owner-uid", v1alpha1.LabelPodUID: "pod-uid"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "owner-uid"}},
		},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: "web-1", PodUID: "pod-uid", NodeName: "node-1", Reason: v1alpha1.ReasonTermination,
			Deadline: ptr.To(metav1.NewTime(deadline)), Fence: true, FenceSeconds: 30, MaxFreezeSeconds: 90,
			Removal: v1alpha1.RemovalDelete, Value: 7, Priority: 1000,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("PodCheckpoint (-want +got):\n%s", diff)
	}
}

func TestNewCheckpointOfPodWithoutWishes(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "alone", UID: "pod-uid"}}
	got := match.NewCheckpoint(pod, match.Request{Attempt: 1, Reason: v1alpha1.ReasonSchedule})
	want := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: match.Name(pod, 1), Labels: map[string]string{v1alpha1.LabelPodUID: "pod-uid"},
		},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: "alone", PodUID: "pod-uid", Reason: v1alpha1.ReasonSchedule, FenceSeconds: 30, MaxFreezeSeconds: 60,
			Removal: v1alpha1.RemovalNone, Value: v1alpha1.DefaultValue,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("PodCheckpoint (-want +got):\n%s", diff)
	}
}
