// SPDX-License-Identifier: Apache-2.0

package object

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// LabelApp is the label that pods carry, with the name that they were made by.
const LabelApp = "app"

func (m Maker) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: m.Namespace, Name: name}
}

func labels(name string) map[string]string {
	return map[string]string{LabelApp: name}
}

// Template is an annotated pod of those containers.
func (m Maker) Template(name string, containers ...corev1.Container) corev1.PodTemplateSpec {
	t := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      labels(name),
			Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true"},
		},
		Spec: corev1.PodSpec{
			Containers:                   containers,
			AutomountServiceAccountToken: ptr.To(false),
		},
	}
	for _, c := range containers {
		if len(c.VolumeMounts) > 0 && c.VolumeMounts[0].Name == scriptVolume {
			t.Spec.Volumes = []corev1.Volume{{Name: scriptVolume, VolumeSource: corev1.VolumeSource{
				ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: scriptVolume}},
			}}}
		}
	}
	return t
}

// Deployment has one pod. A pod that is drained is replaced at once.
func (m Maker) Deployment(name string, template corev1.PodTemplateSpec) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: m.meta(name),
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](1),
			Selector: &metav1.LabelSelector{MatchLabels: labels(name)},
			Template: template,
		},
	}
}

// StatefulSet has one pod.
func (m Maker) StatefulSet(name string, template corev1.PodTemplateSpec, claims ...corev1.PersistentVolumeClaim) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{
		ObjectMeta: m.meta(name),
		Spec: appsv1.StatefulSetSpec{
			Replicas:             ptr.To[int32](1),
			ServiceName:          name,
			Selector:             &metav1.LabelSelector{MatchLabels: labels(name)},
			Template:             template,
			VolumeClaimTemplates: claims,
		},
	}
}

// Job runs one pod to its end.
func (m Maker) Job(name string, template corev1.PodTemplateSpec) *batchv1.Job {
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	return &batchv1.Job{
		ObjectMeta: m.meta(name),
		Spec:       batchv1.JobSpec{Template: template},
	}
}
