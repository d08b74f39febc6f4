// SPDX-License-Identifier: Apache-2.0

package judge_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/test/bench/outage/judge"
)

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}, {Name: "beside", Image: "beside:1"}}},
	}
}

func injected() *corev1.Pod {
	return inject.OptIn(pod(), inject.Options{TemplateHash: "hash", Scheduler: true})
}

func changed(p *corev1.Pod, change func(*corev1.Pod)) *corev1.Pod {
	change(p)
	return p
}

func restored() *corev1.Pod {
	return inject.Restore(injected(), &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Name: "saved"},
		Status: v1alpha1.PodCheckpointStatus{Containers: []v1alpha1.ContainerCheckpoint{
			{Name: "app", BaseImage: "app:1", ImageTag: "saved.app"}, {Name: "beside", BaseImage: "beside:1", ImageTag: "saved.beside"},
		}},
	}, "claim")
}

func TestPod(t *testing.T) {
	for name, tc := range map[string]struct {
		pod   *corev1.Pod
		other bool
		want  judge.Verdict
	}{
		"all of it":               {pod: injected(), want: judge.Right},
		"restoring":               {pod: restored(), want: judge.Right},
		"nothing of it":           {pod: pod(), want: judge.PassedOver},
		"nothing, and not wanted": {pod: pod(), other: true, want: judge.Right},
		"all, and not wanted":     {pod: injected(), other: true, want: judge.Unasked},
		"one container without": {
			pod: changed(injected(), func(p *corev1.Pod) { p.Spec.Containers[1].Env = nil }), want: judge.Half,
		},
		"no label":   {pod: changed(injected(), func(p *corev1.Pod) { p.Labels = nil }), want: judge.Half},
		"label only": {pod: changed(pod(), func(p *corev1.Pod) { p.Labels = map[string]string{v1alpha1.LabelEnabled: "true"} }), want: judge.Half},
		"a claim without its checkpoint": {
			pod: changed(restored(), func(p *corev1.Pod) { delete(p.Annotations, v1alpha1.AnnotationRestoreFrom) }), want: judge.Half,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := judge.Pod(tc.pod, !tc.other); got != tc.want {
				t.Errorf("verdict %q, want %q; marks %v", got, tc.want, judge.Marks(tc.pod))
			}
		})
	}
}
