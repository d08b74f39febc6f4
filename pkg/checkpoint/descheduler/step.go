// SPDX-License-Identifier: Apache-2.0

package descheduler

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// Value is what the annotation says when it is ours. The descheduler looks at its presence only.
const Value = "cryopod"

// Action is what to do about a pod's annotation.
type Action string

// The actions.
const (
	// Nothing is to be done.
	Nothing Action = ""
	// Mark adds the annotation.
	Mark Action = "Mark"
	// Unmark removes it.
	Unmark Action = "Unmark"
)

// Next decides about a pod, given the PodCheckpoints that save it. What somebody else wrote stays.
func Next(pod *corev1.Pod, checkpoints []v1alpha1.PodCheckpoint) Action {
	_, asked := pod.Annotations[v1alpha1.AnnotationEvictOnly]
	value, marked := pod.Annotations[v1alpha1.AnnotationEvictionInProgress]
	if pod.DeletionTimestamp != nil {
		return Nothing
	}
	goes := asked && underway(checkpoints)
	switch {
	case goes && !marked:
		return Mark
	case !goes && marked && value == Value:
		return Unmark
	}
	return Nothing
}

// underway tells whether the latest attempt to save the pod for its end goes on, or has succeeded.
func underway(all []v1alpha1.PodCheckpoint) bool {
	var last *v1alpha1.PodCheckpoint
	for i := range all {
		if pc := &all[i]; pc.Spec.Fence && (last == nil || match.Attempt(pc.Name) > match.Attempt(last.Name)) {
			last = pc
		}
	}
	return last != nil && (!last.Status.Phase.Final() || last.Status.Phase == v1alpha1.PhaseRestored)
}
