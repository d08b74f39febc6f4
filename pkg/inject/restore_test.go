// SPDX-License-Identifier: Apache-2.0

package inject_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
)

func checkpoint(changes ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-0-x-1"},
		Status: v1alpha1.PodCheckpointStatus{Containers: []v1alpha1.ContainerCheckpoint{
			{Name: "main", BaseImage: "app:1", BaseImageDigest: "r/app@sha256:aa", Image: "c/ns@sha256:01", ImageTag: "c/ns:web-0-x-1.main"},
			{Name: "side", BaseImage: "side:1", BaseImageDigest: "r/side@sha256:bb", Image: "c/ns@sha256:02", ImageTag: "c/ns:web-0-x-1.side"},
		}},
	}
	for _, c := range changes {
		c(pc)
	}
	return pc
}

func restored(t *testing.T, pod *corev1.Pod, pc *v1alpha1.PodCheckpoint) *corev1.Pod {
	t.Helper()
	return applyTwice(t, pod, func(p *corev1.Pod) *corev1.Pod { return inject.Restore(p, pc, "id-1") })
}

func TestRestore(t *testing.T) {
	got := restored(t, podWith(), checkpoint())
	want := podWith(func(p *corev1.Pod) {
		p.Labels = map[string]string{"checkpoint.io/restoring": "true"}
		p.Annotations["checkpoint.io/restore-from"] = "web-0-x-1"
		p.Annotations["checkpoint.io/claim"] = "id-1"
		p.Annotations["checkpoint.io/base-images"] = `{"main":"app:1","side":"side:1"}`
		p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "c/ns:web-0-x-1.main", corev1.PullIfNotPresent
		p.Spec.InitContainers[0].Image, p.Spec.InitContainers[0].ImagePullPolicy = "c/ns:web-0-x-1.side", corev1.PullIfNotPresent
	})
	volumes := got.Spec.Volumes
	got.Spec.Volumes = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Restore (-want +got):\n%s", diff)
	}
	var images []corev1.ImageVolumeSource
	for _, v := range volumes {
		if !strings.HasPrefix(v.Name, "cryopod-base-") {
			t.Errorf("volume is named %q", v.Name)
		}
		images = append(images, *v.Image)
	}
	wantImages := []corev1.ImageVolumeSource{
		{Reference: "r/side@sha256:bb", PullPolicy: corev1.PullIfNotPresent},
		{Reference: "r/app@sha256:aa", PullPolicy: corev1.PullIfNotPresent},
	}
	if diff := cmp.Diff(wantImages, images); diff != "" {
		t.Errorf("image volumes (-want +got):\n%s", diff)
	}
}

func TestRestoreVariants(t *testing.T) {
	same := func(pc *v1alpha1.PodCheckpoint) {
		pc.Status.Containers[1].BaseImageDigest = pc.Status.Containers[0].BaseImageDigest
	}
	only := func(pc *v1alpha1.PodCheckpoint) { pc.Status.Containers = pc.Status.Containers[:1] }
	tests := map[string]struct {
		change func(*v1alpha1.PodCheckpoint)
		main   string
		side   string
		pulled string
	}{
		"one base image for two": {change: same, main: "c/ns:web-0-x-1.main", side: "c/ns:web-0-x-1.side", pulled: "r/app@sha256:aa"},
		"one of two saved":       {change: only, main: "c/ns:web-0-x-1.main", side: "side:1", pulled: "r/app@sha256:aa"},
		"no tag": {
			change: func(pc *v1alpha1.PodCheckpoint) { only(pc); pc.Status.Containers[0].ImageTag = "" },
			main:   "c/ns@sha256:01", side: "side:1", pulled: "r/app@sha256:aa",
		},
		"no digest of the base": {
			change: func(pc *v1alpha1.PodCheckpoint) { only(pc); pc.Status.Containers[0].BaseImageDigest = "" },
			main:   "c/ns:web-0-x-1.main", side: "side:1", pulled: "app:1",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := restored(t, podWith(), checkpoint(tc.change))
			var pulled []string
			for _, v := range got.Spec.Volumes {
				pulled = append(pulled, v.Image.Reference)
			}
			want := []any{tc.main, tc.side, []string{tc.pulled}}
			if diff := cmp.Diff(want, []any{got.Spec.Containers[0].Image, got.Spec.InitContainers[0].Image, pulled}); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRestoreKeepsVolumesOfTheOwner(t *testing.T) {
	own := corev1.Volume{Name: "cryopod-base-0"}
	got := restored(t, podWith(func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{own} }), checkpoint())
	if diff := cmp.Diff(own, got.Spec.Volumes[0]); diff != "" || len(got.Spec.Volumes) != 3 {
		t.Errorf("%d volumes, the owner's (-want +got):\n%s", len(got.Spec.Volumes), diff)
	}
}

func TestRestorable(t *testing.T) {
	tests := map[string]struct {
		change func(*v1alpha1.PodCheckpoint)
		want   bool
	}{
		"all there":     {change: func(*v1alpha1.PodCheckpoint) {}, want: true},
		"digest only":   {change: func(pc *v1alpha1.PodCheckpoint) { pc.Status.Containers[0].ImageTag = "" }, want: true},
		"nothing saved": {change: func(pc *v1alpha1.PodCheckpoint) { pc.Status.Containers = nil }},
		"no image": {change: func(pc *v1alpha1.PodCheckpoint) {
			pc.Status.Containers[1].ImageTag, pc.Status.Containers[1].Image = "", ""
		}},
		"no base image":     {change: func(pc *v1alpha1.PodCheckpoint) { pc.Status.Containers[1].BaseImage = "" }},
		"unknown container": {change: func(pc *v1alpha1.PodCheckpoint) { pc.Status.Containers[1].Name = "x" }},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := inject.Restorable(podWith(), checkpoint(tc.change)); got != tc.want {
				t.Errorf("Restorable = %t, want %t", got, tc.want)
			}
		})
	}
}

func TestFallBack(t *testing.T) {
	swapped := restored(t, podWith(), checkpoint())
	fallBack := func(p *corev1.Pod) *corev1.Pod { return inject.FallBack(p, "criu: no") }
	got := applyTwice(t, swapped, fallBack)
	want := swapped.DeepCopy()
	want.Spec.Containers[0].Image = "app:1"
	want.Spec.InitContainers[0].Image = "side:1"
	want.Annotations[v1alpha1.AnnotationFellBack] = "criu: no"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("FallBack (-want +got):\n%s", diff)
	}
	again := inject.FallBack(got, "another reason")
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("FallBack of a pod that has fallen back (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(podWith(), applyTwice(t, podWith(), fallBack)); diff != "" {
		t.Errorf("FallBack of a pod that was not restored (-want +got):\n%s", diff)
	}
}
