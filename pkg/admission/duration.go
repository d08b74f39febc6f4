// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// The bounds of PodCheckpoint's spec.maxFreezeSeconds.
const (
	minMaxFreeze = time.Second
	maxMaxFreeze = time.Hour
)

func deadline(pod *corev1.Pod) time.Duration {
	d, err := duration(pod, v1alpha1.AnnotationDeadline, v1alpha1.DefaultDeadline)
	if err != nil {
		return v1alpha1.DefaultDeadline
	}
	return d
}

func maxFreeze(pod *corev1.Pod) time.Duration {
	d, err := duration(pod, v1alpha1.AnnotationMaxFreeze, v1alpha1.DefaultMaxFreeze)
	if err != nil {
		return v1alpha1.DefaultMaxFreeze
	}
	return min(max(d, minMaxFreeze), maxMaxFreeze)
}

// duration reads the annotation, def when the pod has none.
func duration(pod *corev1.Pod, key string, def time.Duration) (time.Duration, error) {
	text, ok := pod.Annotations[key]
	if !ok {
		return def, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("annotation %q: %q is no duration above 0, such as 90s", key, text)
	}
	return d, nil
}

// annotationWarnings tells the pod's author of durations that will not be heeded.
func annotationWarnings(pod *corev1.Pod) []string {
	var out []string
	for _, a := range []struct {
		key string
		def time.Duration
	}{
		{v1alpha1.AnnotationDeadline, v1alpha1.DefaultDeadline},
		{v1alpha1.AnnotationMaxFreeze, v1alpha1.DefaultMaxFreeze},
	} {
		if _, err := duration(pod, a.key, a.def); err != nil {
			out = append(out, fmt.Sprintf("%v; %s is used", err, a.def))
		}
	}
	return out
}
