// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/cmd/webhook/app"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func TestStripPod(t *testing.T) {
	whole := func(change ...func(*corev1.Pod)) *corev1.Pod {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "ns", Name: "pod", UID: "uid", Labels: map[string]string{v1alpha1.LabelEnabled: "true"},
				Annotations:     map[string]string{v1alpha1.AnnotationEnabled: "true"},
				OwnerReferences: []metav1.OwnerReference{{UID: "owner"}},
			},
			Spec: corev1.PodSpec{
				NodeName: "node", HostNetwork: true, Priority: ptr.To(int32(7)), RestartPolicy: corev1.RestartPolicyAlways,
				Volumes: []corev1.Volume{{Name: "data"}},
				Containers: []corev1.Container{{
					Name: "app", Image: "app:1", VolumeMounts: []corev1.VolumeMount{{Name: "data"}},
				}},
			},
			Status: corev1.PodStatus{
				Phase:             corev1.PodRunning,
				Conditions:        []corev1.PodCondition{{Type: corev1.PodReady}},
				ContainerStatuses: []corev1.ContainerStatus{{Name: "app"}},
			},
		}
		for _, f := range change {
			f(pod)
		}
		return pod
	}
	more := func(p *corev1.Pod) {
		c := &p.Spec.Containers[0]
		c.Command, c.Args, c.Env = []string{"run"}, []string{"--it"}, []corev1.EnvVar{{Name: "PASSWORD", Value: "secret"}}
		c.LivenessProbe = &corev1.Probe{PeriodSeconds: 1}
		p.Spec.Tolerations = []corev1.Toleration{{Key: "x"}}
		p.Spec.Affinity = &corev1.Affinity{}
	}
	managed := func(p *corev1.Pod) { p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet"}} }
	restoring := func(p *corev1.Pod) { p.Annotations[v1alpha1.AnnotationRestoreFrom] = "saved" }
	for name, tc := range map[string]struct{ in, want *corev1.Pod }{
		"what may be needed stays": {in: whole(), want: whole()},
		"the rest goes":            {in: whole(more, managed), want: whole()},
		"one that restores":        {in: whole(more, managed, restoring), want: whole(more, restoring)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := app.StripPod(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("pod (-want +got):\n%s", diff)
			}
		})
	}
}
