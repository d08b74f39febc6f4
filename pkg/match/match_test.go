// SPDX-License-Identifier: Apache-2.0

package match_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

func TestName(t *testing.T) {
	long := strings.Repeat("a", 253)
	tests := map[string]struct {
		pod     string
		uid     types.UID
		attempt int
		want    string
	}{
		"short":                     {pod: "web-0", uid: "u1", attempt: 1, want: "web-0-bb82030dbc-1"},
		"another UID":               {pod: "web-0", uid: "u2", attempt: 1, want: "web-0-6ca202c88e-1"},
		"second attempt":            {pod: "web-0", uid: "u1", attempt: 2, want: "web-0-bb82030dbc-2"},
		"long":                      {pod: long, uid: "u1", attempt: 12, want: long[:40] + "-bb82030dbc-12"},
		"no separator at the end":   {pod: strings.Repeat("a", 38) + "-.b", uid: "u1", attempt: 1, want: long[:38] + "-bb82030dbc-1"},
		"a dot inside stays inside": {pod: "a.b", uid: "u1", attempt: 1, want: "a.b-bb82030dbc-1"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: tc.pod, UID: tc.uid}}
			got := match.Name(pod, tc.attempt)
			if got != tc.want {
				t.Errorf("Name = %q, want %q", got, tc.want)
			}
			if len(got) > 63 {
				t.Errorf("Name has %d characters, more than 63", len(got))
			}
			if errs := validation.IsDNS1123Subdomain(got); len(errs) > 0 {
				t.Errorf("Name %q is no valid object name: %v", got, errs)
			}
			if back := match.Attempt(got); back != tc.attempt {
				t.Errorf("Attempt(%q) = %d, want %d", got, back, tc.attempt)
			}
		})
	}
}

func TestAttemptOfForeignNames(t *testing.T) {
	for _, name := range []string{"", "by-hand", "x-0", "x--1b", "3-"} {
		if got := match.Attempt(name); got != 0 {
			t.Errorf("Attempt(%q) = %d, want 0", name, got)
		}
	}
}

func owned(kind string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "web-0", UID: "p1",
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "v1", Kind: "Other", Name: "o", UID: "x"},
				{APIVersion: "apps/v1", Kind: kind, Name: "web", UID: "o1", Controller: ptr.To(true)},
			},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "main", Image: "app:1", Env: []corev1.EnvVar{{Name: "A", Value: "b"}},
		}}},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

func TestOwnerOf(t *testing.T) {
	index := func(p *corev1.Pod) { p.Annotations = map[string]string{batchv1.JobCompletionIndexAnnotation: "3"} }
	indexLabel := func(p *corev1.Pod) { p.Labels = map[string]string{batchv1.JobCompletionIndexAnnotation: "4"} }
	generated := func(p *corev1.Pod) { p.GenerateName = "web-" }
	tests := map[string]struct {
		pod  *corev1.Pod
		slot string
		none bool
	}{
		"replica set":                      {pod: owned("ReplicaSet", generated)},
		"stateful set":                     {pod: owned("StatefulSet", generated), slot: "web-0"},
		"job":                              {pod: owned("Job")},
		"indexed job":                      {pod: owned("Job", index), slot: "3"},
		"indexed job, by label":            {pod: owned("Job", indexLabel), slot: "4"},
		"operator that names its pods":     {pod: owned("PyTorchJob"), slot: "web-0"},
		"operator that generates names":    {pod: owned("Fleet", generated)},
		"an owner that is no controller":   {pod: owned("X", func(p *corev1.Pod) { p.OwnerReferences = p.OwnerReferences[:1] }), none: true},
		"a replica set's index is nothing": {pod: owned("ReplicaSet", index)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := match.OwnerOf(tc.pod)
			if tc.none {
				if got != nil {
					t.Fatalf("OwnerOf = %+v, want none", got)
				}
				return
			}
			want := &v1alpha1.Owner{
				UID: "o1", APIVersion: "apps/v1", Kind: tc.pod.OwnerReferences[1].Kind, Name: "web", Slot: tc.slot,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("OwnerOf (-want +got):\n%s", diff)
			}
		})
	}
}

func ready(pod *corev1.Pod) *v1alpha1.PodCheckpoint {
	return &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: match.Name(pod, 1)},
		Spec:       v1alpha1.PodCheckpointSpec{PodName: pod.Name, PodUID: pod.UID, Fence: true},
		Status: v1alpha1.PodCheckpointStatus{
			Phase: v1alpha1.PhaseReady, Owner: match.OwnerOf(pod), TemplateHash: match.TemplateHash(pod),
		},
	}
}

func TestReplaces(t *testing.T) {
	tests := map[string]struct {
		pod    *corev1.Pod
		change func(*v1alpha1.PodCheckpoint)
		want   bool
		why    string
	}{
		"fits":                {pod: owned("StatefulSet"), want: true, why: "same controller"},
		"another namespace":   {pod: owned("StatefulSet", func(p *corev1.Pod) { p.Namespace = "other" }), why: "namespace"},
		"another owner":       {pod: owned("StatefulSet", func(p *corev1.Pod) { p.OwnerReferences[1].UID = "o2" }), why: "another controller"},
		"no owner":            {pod: owned("StatefulSet", func(p *corev1.Pod) { p.OwnerReferences = nil }), why: "no controller"},
		"another slot":        {pod: owned("StatefulSet", func(p *corev1.Pod) { p.Name = "web-1" }), why: `slot "web-0"`},
		"another image":       {pod: owned("StatefulSet", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "app:2" }), why: "template"},
		"claimed":             {pod: owned("StatefulSet"), change: phase(v1alpha1.PhaseClaimed), why: "Claimed"},
		"not begun":           {pod: owned("StatefulSet"), change: phase(""), why: "Pending"},
		"not fenced":          {pod: owned("StatefulSet"), change: func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Fence = false }, why: "went on"},
		"source lost":         {pod: owned("StatefulSet"), change: unfenced(metav1.ConditionTrue), want: true, why: "same controller"},
		"source ended":        {pod: owned("StatefulSet"), change: unfenced(metav1.ConditionFalse), why: "went on"},
		"released":            {pod: owned("StatefulSet"), change: phase(v1alpha1.PhaseReleased), why: "Released"},
		"checkpoint unowned":  {pod: owned("StatefulSet"), change: func(pc *v1alpha1.PodCheckpoint) { pc.Status.Owner = nil }, why: "another controller"},
		"hash missing":        {pod: owned("StatefulSet"), change: func(pc *v1alpha1.PodCheckpoint) { pc.Status.TemplateHash = "" }, why: "template"},
		"replacement renamed": {pod: owned("ReplicaSet", func(p *corev1.Pod) { p.Name = "" }), change: func(pc *v1alpha1.PodCheckpoint) { *pc = *ready(owned("ReplicaSet")) }, want: true, why: "same"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pc := ready(owned("StatefulSet"))
			if tc.change != nil {
				tc.change(pc)
			}
			got, why := match.Replaces(tc.pod, pc)
			if got != tc.want || !strings.Contains(why, tc.why) {
				t.Errorf("Replaces = %t, %q, want %t, …%s…", got, why, tc.want, tc.why)
			}
		})
	}
}

func phase(p v1alpha1.Phase) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) { pc.Status.Phase = p }
}

// unfenced makes the checkpoint one of a pod that went on, with the condition SourceLost.
func unfenced(lost metav1.ConditionStatus) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) {
		pc.Spec.Fence = false
		pc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionSourceLost, Status: lost}}
	}
}
