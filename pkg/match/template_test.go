// SPDX-License-Identifier: Apache-2.0

package match_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/match"
)

// TestTemplateHashIsStable guards checkpoints that were made by an older version: the hash of a given pod must not change.
func TestTemplateHashIsStable(t *testing.T) {
	if got, want := match.TemplateHash(owned("ReplicaSet")), "6a641a249934aca6"; got != want {
		t.Errorf("TemplateHash = %q, want %q", got, want)
	}
}

func TestTemplateHash(t *testing.T) {
	main := func(p *corev1.Pod) *corev1.Container { return &p.Spec.Containers[0] }
	tests := map[string]struct {
		change func(*corev1.Pod)
		same   bool
	}{
		"image":        {change: func(p *corev1.Pod) { main(p).Image = "app:2" }},
		"command":      {change: func(p *corev1.Pod) { main(p).Command = []string{"x"} }},
		"args":         {change: func(p *corev1.Pod) { main(p).Args = []string{"x"} }},
		"directory":    {change: func(p *corev1.Pod) { main(p).WorkingDir = "/x" }},
		"variable":     {change: func(p *corev1.Pod) { main(p).Env[0].Value = "c" }},
		"new variable": {change: func(p *corev1.Pod) { main(p).Env = append(main(p).Env, corev1.EnvVar{Name: "X"}) }},
		"envFrom":      {change: func(p *corev1.Pod) { main(p).EnvFrom = []corev1.EnvFromSource{{Prefix: "P"}} }},
		"port":         {change: func(p *corev1.Pod) { main(p).Ports = []corev1.ContainerPort{{ContainerPort: 80}} }},
		"mount":        {change: mount("data")},
		"device":       {change: func(p *corev1.Pod) { main(p).VolumeDevices = []corev1.VolumeDevice{{Name: "d"}} }},
		"user":         {change: func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr.To(int64(7))} }},
		"own user":     {change: func(p *corev1.Pod) { main(p).SecurityContext = &corev1.SecurityContext{RunAsUser: ptr.To(int64(7))} }},
		"sidecar":      {change: func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "side", Image: "s"}} }},
		"second":       {change: func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "b"}) }},
		"revision":     {change: func(p *corev1.Pod) { p.Labels = map[string]string{"controller-revision-hash": "r2"} }},
		"pod template": {change: func(p *corev1.Pod) { p.Labels = map[string]string{"pod-template-hash": "r2"} }},
		"GODEBUG of theirs": {change: func(p *corev1.Pod) {
			main(p).Env = append(main(p).Env, corev1.EnvVar{Name: "GODEBUG", Value: "netdns=go"})
		}},

		"name":            {same: true, change: func(p *corev1.Pod) { p.Name, p.UID = "web-7", "p7" }},
		"node":            {same: true, change: func(p *corev1.Pod) { p.Spec.NodeName = "n" }},
		"other labels":    {same: true, change: func(p *corev1.Pod) { p.Labels = map[string]string{"statefulset.kubernetes.io/pod-name": "x"} }},
		"service account": {same: true, change: mount("kube-api-access-x7x7x")},
		"resources": {same: true, change: func(p *corev1.Pod) {
			main(p).Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
		}},
		"opted in":                    {same: true, change: optIn},
		"restored":                    {same: true, change: func(p *corev1.Pod) { optIn(p); restore(p) }},
		"restored and fallen back":    {same: true, change: func(p *corev1.Pod) { optIn(p); restore(p); *p = *inject.FallBack(p, "x") }},
		"checkpoint image, no record": {change: func(p *corev1.Pod) { restore(p); delete(p.Annotations, v1alpha1.AnnotationBaseImages) }},
		"checkpoint image, bad record": {change: func(p *corev1.Pod) {
			restore(p)
			p.Annotations[v1alpha1.AnnotationBaseImages] = "{"
		}},
	}
	want := match.TemplateHash(owned("ReplicaSet"))
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := match.TemplateHash(owned("ReplicaSet", tc.change))
			if (got == want) != tc.same {
				t.Errorf("TemplateHash = %q, that of the plain pod is %q; same should be %t", got, want, tc.same)
			}
		})
	}
}

// TestTemplateHashPrivileged has the case in which the profile goes on containers.
func TestTemplateHashPrivileged(t *testing.T) {
	before := match.TemplateHash(owned("ReplicaSet", privileged))
	after := match.TemplateHash(owned("ReplicaSet", privileged, optIn))
	if before != after {
		t.Errorf("TemplateHash after opt-in = %q, before %q", after, before)
	}
}

func TestTemplateHashIgnoresOrderOfContainers(t *testing.T) {
	one := func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "z"}) }
	other := func(p *corev1.Pod) { p.Spec.Containers = append([]corev1.Container{{Name: "z"}}, p.Spec.Containers...) }
	if a, b := match.TemplateHash(owned("X", one)), match.TemplateHash(owned("X", other)); a != b {
		t.Errorf("TemplateHash differs with the order: %q, %q", a, b)
	}
}

func mount(volume string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: volume, MountPath: "/m"}}
	}
}

func privileged(p *corev1.Pod) {
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
		Name: "root", SecurityContext: &corev1.SecurityContext{Privileged: ptr.To(true)},
	})
}

func optIn(p *corev1.Pod) {
	*p = *inject.OptIn(p, inject.Options{TemplateHash: match.TemplateHash(p), Scheduler: true})
}

func restore(p *corev1.Pod) {
	pc := &v1alpha1.PodCheckpoint{Status: v1alpha1.PodCheckpointStatus{Containers: []v1alpha1.ContainerCheckpoint{
		{Name: "main", BaseImage: "app:1", ImageTag: "r/ns:x.main"},
	}}}
	*p = *inject.Restore(p, pc, "id")
}
