// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
)

// digest returns a well-formed digest of one hexadecimal digit.
func digest(hex string) string { return "sha256:" + strings.Repeat(hex, 64) }

// layer is one whose digest begins with those digits.
func layer(hex string, bytes int64) imageindex.Layer {
	return imageindex.Layer{Digest: "sha256:" + hex + strings.Repeat("0", 64-len(hex)), Bytes: bytes}
}

// stored is an image on a node, with a digest of one hexadecimal digit.
func stored(hex, name string, layers ...imageindex.Layer) imageindex.Image {
	return imageindex.Image{Digest: digest(hex), Names: []string{name}, Layers: layers}
}

// layerless is one of which no layer is known.
func layerless(hex string) imageindex.Image { return imageindex.Image{Digest: digest(hex)} }

// appStored is appImage in three layers, of a third each. The pull of each takes long.
func appStored() imageindex.Image {
	app := stored("a", appImage, layer("1", 1000*mib), layer("2", 1000*mib), layer("3", 1000*mib))
	app.Names = append(app.Names, "registry.example/app") // its repository
	return app
}

const (
	appImage        = "registry.example/app:1"
	checkpointImage = "registry.example/checkpoints/default:counter"
)

var appDigest = "registry.example/app@" + digest("a")

func newNode(name string, images ...corev1.ContainerImage) *corev1.Node {
	room := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("4"),
		corev1.ResourceMemory: resource.MustParse("8Gi"),
		corev1.ResourcePods:   resource.MustParse("110"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{
			Capacity: room, Allocatable: room, Images: images,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

func newProfile(name string, verified bool, images ...imageindex.Image) *v1alpha1.NodeProfile {
	return &v1alpha1.NodeProfile{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: v1alpha1.NodeProfileStatus{
			Arch:           "amd64",
			CPUFeatures:    []string{"avx2", "sse2"},
			CgroupVersion:  2,
			Runtime:        "containerd://2.3.7",
			RestoreMethods: []v1alpha1.RestoreMethod{{Name: v1alpha1.RestoreMethodImage, Verified: verified}},
			ImageIndex:     imageindex.Pack(images),
		},
	}
}

// newCheckpoint is one of the pod counter, whose only container app runs appImage.
func newCheckpoint() *v1alpha1.PodCheckpoint {
	return &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "counter-1"},
		Spec:       v1alpha1.PodCheckpointSpec{PodName: "counter", PodUID: "source", NodeName: "source", Reason: v1alpha1.ReasonEviction},
		Status: v1alpha1.PodCheckpointStatus{
			Phase: v1alpha1.PhaseClaimed,
			Containers: []v1alpha1.ContainerCheckpoint{
				{Name: "app", BaseImage: appImage, BaseImageDigest: appDigest, ImageTag: checkpointImage},
			},
			Requirements: &v1alpha1.Requirements{
				Arch: "amd64", CPUFeatures: []string{"avx2", "sse2"}, CgroupVersion: 2, Runtime: "containerd://2.3.7",
			},
		},
	}
}

func newPod(name, image string, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Annotations: annotations},
		Spec: corev1.PodSpec{
			SchedulerName: v1alpha1.SchedulerName,
			Containers:    []corev1.Container{{Name: "app", Image: image}},
		},
	}
}

func enabledPod() *corev1.Pod {
	return newPod("enabled", appImage, map[string]string{v1alpha1.AnnotationEnabled: "true"})
}

// restoringPod is one that the webhook let restore from newCheckpoint.
func restoringPod() *corev1.Pod {
	return newPod("restoring", checkpointImage, map[string]string{
		v1alpha1.AnnotationEnabled:     "true",
		v1alpha1.AnnotationRestoreFrom: "counter-1",
		v1alpha1.AnnotationBaseImages:  `{"app":"` + appImage + `"}`,
	})
}
