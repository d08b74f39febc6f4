// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
)

// Cold is the pod with the base images of the named containers, and the reason why. Other containers keep the image that they
// have. The pod itself is left alone.
func Cold(pod *corev1.Pod, containers []string, why string) *corev1.Pod {
	again := pod.DeepCopy()
	// A pod of which one container started cold before may follow with another.
	delete(again.Annotations, v1alpha1.AnnotationFellBack)
	out := inject.FallBack(again, why)
	keep := func(out, in []corev1.Container) {
		for i := range out {
			if !slices.Contains(containers, out[i].Name) {
				out[i].Image = in[i].Image
			}
		}
	}
	keep(out.Spec.InitContainers, pod.Spec.InitContainers)
	keep(out.Spec.Containers, pod.Spec.Containers)
	return out
}
