// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

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
