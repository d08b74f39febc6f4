// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const (
	// baseVolume begins the names of the volumes that make the kubelet pull base images.
	baseVolume = "cryopod-base-"

	baseVolumeDigits = 12
)

// Restorable tells whether the pod has every container of the checkpoint, and the checkpoint both images of each: Restore has
// to be given no other.
func Restorable(pod *corev1.Pod, pc *v1alpha1.PodCheckpoint) bool {
	if len(pc.Status.Containers) == 0 {
		return false
	}
	names := map[string]bool{}
	eachContainer(pod.DeepCopy(), func(c *corev1.Container) { names[c.Name] = true })
	for i := range pc.Status.Containers {
		c := &pc.Status.Containers[i]
		if !names[c.Name] || checkpointImage(c) == "" || c.BaseImage == "" {
			return false
		}
	}
	return true
}

// Restore makes the pod start from the checkpoint by the method image, under the claim of that ID. Each saved container's image
// becomes its checkpoint image. Each base image becomes an image volume that no container mounts: the kubelet pulls those, with
// the pod's own secrets, before it creates any container, and the runtime needs the base image on the node to restore.
func Restore(pod *corev1.Pod, pc *v1alpha1.PodCheckpoint, claimID string) *corev1.Pod {
	out := pod.DeepCopy()
	setAnnotation(out, v1alpha1.AnnotationRestoreFrom, pc.Name)
	setAnnotation(out, v1alpha1.AnnotationClaim, claimID)
	setLabel(out, v1alpha1.LabelRestoring, "true")

	saved := map[string]*v1alpha1.ContainerCheckpoint{}
	for i := range pc.Status.Containers {
		saved[pc.Status.Containers[i].Name] = &pc.Status.Containers[i]
	}
	base := map[string]string{}
	eachContainer(out, func(c *corev1.Container) {
		s, ok := saved[c.Name]
		if !ok {
			return
		}
		base[c.Name] = s.BaseImage
		c.Image = checkpointImage(s)
		c.ImagePullPolicy = corev1.PullIfNotPresent
		addBaseVolume(out, cmp.Or(s.BaseImageDigest, s.BaseImage))
	})
	setBaseImages(out, base)
	return out
}

// FallBack gives a pod that Restore swapped its base images back and notes why, for one patch of the live pod: the kubelet then
// creates its containers anew, cold. Everything else of a pod that exists is immutable and stays. A pod that was not
// swapped, or has fallen back, comes back unchanged.
func FallBack(pod *corev1.Pod, why string) *corev1.Pod {
	out := pod.DeepCopy()
	base := BaseImages(pod)
	if _, done := pod.Annotations[v1alpha1.AnnotationFellBack]; done || len(base) == 0 {
		return out
	}
	eachContainer(out, func(c *corev1.Container) {
		if image, ok := base[c.Name]; ok {
			c.Image = image
		}
	})
	setAnnotation(out, v1alpha1.AnnotationFellBack, why)
	return out
}

// BaseImages is, by container name, the image that the pod's owner wrote for each container that was swapped for a checkpoint
// image. It is empty for a pod that was not, and for one whose annotation can't be read.
func BaseImages(pod *corev1.Pod) map[string]string {
	text, ok := pod.Annotations[v1alpha1.AnnotationBaseImages]
	if !ok {
		return nil
	}
	var images map[string]string
	if err := json.Unmarshal([]byte(text), &images); err != nil {
		return nil
	}
	return images
}

func setBaseImages(pod *corev1.Pod, images map[string]string) {
	// A map of strings always encodes, its keys sorted.
	text, _ := json.Marshal(images)
	setAnnotation(pod, v1alpha1.AnnotationBaseImages, string(text))
}

func checkpointImage(c *v1alpha1.ContainerCheckpoint) string {
	return cmp.Or(c.ImageTag, c.Image)
}

// addBaseVolume names the volume by its image, so that a second call finds it and no volume of the owner's is in the way.
func addBaseVolume(pod *corev1.Pod, image string) {
	sum := sha256.Sum256([]byte(image))
	name := baseVolume + hex.EncodeToString(sum[:])[:baseVolumeDigits]
	if slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name }) {
		return
	}
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		Image: &corev1.ImageVolumeSource{Reference: image, PullPolicy: corev1.PullIfNotPresent},
	}})
}
