// SPDX-License-Identifier: Apache-2.0

// Package wish reads what users wish for their pods: the annotations that they write in a pod's template. What can't be read counts
// as not written, and Warnings tells of it. All of it is pure.
package wish

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// The bounds of PodCheckpoint's spec.maxFreezeSeconds.
const (
	minMaxFreeze = time.Second
	maxMaxFreeze = time.Hour
)

// On is what the pod is to be saved for.
func On(pod *corev1.Pod) sets.Set[v1alpha1.Trigger] {
	on, _ := readOn(pod)
	return on
}

// Triggered tells whether the pod is to be saved when it is about to go that way.
func Triggered(pod *corev1.Pod, by v1alpha1.Trigger) bool {
	return On(pod).Has(by)
}

// Deadline is how long the pod's end may be put off.
func Deadline(pod *corev1.Pod) time.Duration {
	d, _ := readDeadline(pod)
	return d
}

// MaxFreeze is how long the pod may stand still before its checkpoint is durable: from 1 s to 1 h.
func MaxFreeze(pod *corev1.Pod) time.Duration {
	d, _ := readMaxFreeze(pod)
	return d
}

// OnFailure is what becomes of the pod's eviction when its checkpoint failed: v1alpha1.OnFailureEvict or v1alpha1.OnFailureBlock.
func OnFailure(pod *corev1.Pod) string {
	v, _ := readOnFailure(pod)
	return v
}

// Interval is how often the pod is saved while it runs, at least v1alpha1.MinInterval; false when it is not.
func Interval(pod *corev1.Pod) (time.Duration, bool) {
	d, _ := readInterval(pod)
	return d, d > 0
}

// Value is what saving the pod is worth beside others of its node: from 1 to v1alpha1.MaxValue.
func Value(pod *corev1.Pod) int64 {
	v, _ := readValue(pod)
	return v
}

// Warnings tell the pod's author which annotations will not be heeded as they are written, and what counts in their stead.
func Warnings(pod *corev1.Pod) []string {
	var out []string
	note := func(warning string) {
		if warning != "" {
			out = append(out, warning)
		}
	}
	_, w := readOn(pod)
	note(w)
	_, w = readDeadline(pod)
	note(w)
	_, w = readMaxFreeze(pod)
	note(w)
	_, w = readOnFailure(pod)
	note(w)
	_, w = readInterval(pod)
	note(w)
	_, w = readValue(pod)
	note(w)
	return out
}

// readOn heeds the triggers that it knows. A list without any counts as not written.
func readOn(pod *corev1.Pod) (on sets.Set[v1alpha1.Trigger], warning string) {
	text, ok := pod.Annotations[v1alpha1.AnnotationOn]
	if !ok {
		return triggers(v1alpha1.DefaultOn), ""
	}
	known := sets.New(v1alpha1.Triggers()...)
	named := triggers(text)
	on = named.Intersection(known)
	if unknown := sets.List(named.Difference(known)); len(unknown) > 0 {
		warning = fmt.Sprintf("annotation %q: %q is none of %s", v1alpha1.AnnotationOn, unknown, join(v1alpha1.Triggers()))
	}
	switch {
	case on.Len() == 0:
		warning = fmt.Sprintf("annotation %q: %q names none of %s; %s is used",
			v1alpha1.AnnotationOn, text, join(v1alpha1.Triggers()), v1alpha1.DefaultOn)
		return triggers(v1alpha1.DefaultOn), warning
	case warning != "":
		warning += fmt.Sprintf("; %s is used", join(sets.List(on)))
	}
	return on, warning
}

// triggers are the elements of a list separated by commas, known or not.
func triggers(text string) sets.Set[v1alpha1.Trigger] {
	all := sets.New[v1alpha1.Trigger]()
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			all.Insert(v1alpha1.Trigger(name))
		}
	}
	return all
}

func join(all []v1alpha1.Trigger) string {
	names := make([]string, len(all))
	for i, t := range all {
		names[i] = string(t)
	}
	return strings.Join(names, ",")
}

func readDeadline(pod *corev1.Pod) (time.Duration, string) {
	return readDuration(pod, v1alpha1.AnnotationDeadline, v1alpha1.DefaultDeadline, v1alpha1.DefaultDeadline.String())
}

func readMaxFreeze(pod *corev1.Pod) (time.Duration, string) {
	d, warning := readDuration(pod, v1alpha1.AnnotationMaxFreeze, v1alpha1.DefaultMaxFreeze, v1alpha1.DefaultMaxFreeze.String())
	if within := min(max(d, minMaxFreeze), maxMaxFreeze); within != d {
		return within, fmt.Sprintf("annotation %q: %s is not between %s and %s; %s is used",
			v1alpha1.AnnotationMaxFreeze, d, minMaxFreeze, maxMaxFreeze, within)
	}
	return d, warning
}

func readInterval(pod *corev1.Pod) (time.Duration, string) {
	d, warning := readDuration(pod, v1alpha1.AnnotationInterval, 0, "none")
	if d > 0 && d < v1alpha1.MinInterval {
		return v1alpha1.MinInterval, fmt.Sprintf("annotation %q: %s is below %s, which is used",
			v1alpha1.AnnotationInterval, d, v1alpha1.MinInterval)
	}
	return d, warning
}

// readDuration reads the annotation, def when the pod has none that can be read; defText is def for people.
func readDuration(pod *corev1.Pod, key string, def time.Duration, defText string) (d time.Duration, warning string) {
	text, ok := pod.Annotations[key]
	if !ok {
		return def, ""
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return def, fmt.Sprintf("annotation %q: %q is no duration above 0, such as 90s; %s is used", key, text, defText)
	}
	return d, ""
}

func readOnFailure(pod *corev1.Pod) (value, warning string) {
	text, ok := pod.Annotations[v1alpha1.AnnotationOnFailure]
	switch {
	case !ok:
		return v1alpha1.OnFailureEvict, ""
	case text == v1alpha1.OnFailureEvict, text == v1alpha1.OnFailureBlock:
		return text, ""
	}
	return v1alpha1.OnFailureEvict, fmt.Sprintf("annotation %q: %q is neither %s nor %s; %s is used",
		v1alpha1.AnnotationOnFailure, text, v1alpha1.OnFailureEvict, v1alpha1.OnFailureBlock, v1alpha1.OnFailureEvict)
}

func readValue(pod *corev1.Pod) (value int64, warning string) {
	text, ok := pod.Annotations[v1alpha1.AnnotationValue]
	if !ok {
		return v1alpha1.DefaultValue, ""
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil || v < 1 || v > v1alpha1.MaxValue {
		return v1alpha1.DefaultValue, fmt.Sprintf("annotation %q: %q is no whole number from 1 to %d; %d is used",
			v1alpha1.AnnotationValue, text, v1alpha1.MaxValue, v1alpha1.DefaultValue)
	}
	return v, ""
}
