// SPDX-License-Identifier: Apache-2.0

// Package match decides which checkpoint belongs to which pod: the name of a pod's checkpoint, the owner and slot that two pods
// share, and the template hash that tells whether the second is what the first was. All of it is pure.
package match

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Replaces tells whether the pod, as it stands at its CREATE, may start from the checkpoint, and the rule that decided, for
// people. A checkpoint without a fence, whose source went on after it, is for nobody until its source is known to have gone with its
// node. It looks at the two objects only: that the source of a fenced one is gone, and that nobody else claims the checkpoint, is for
// the caller to see to.
func Replaces(pod *corev1.Pod, pc *v1alpha1.PodCheckpoint) (bool, string) {
	fits, why := Fits(pod, pc)
	if fits && !pc.Spec.Fence && !SourceLost(pc) {
		return false, "its source went on after it was made, and is not known to have gone with its node"
	}
	return fits, why
}

// Fits is Replaces without the question whether the checkpoint's source went on.
func Fits(pod *corev1.Pod, pc *v1alpha1.PodCheckpoint) (bool, string) {
	owner, saved := OwnerOf(pod), pc.Status.Owner
	switch {
	case pod.Namespace != pc.Namespace:
		return false, "it is in another namespace"
	case pc.Status.Phase != v1alpha1.PhaseReady:
		return false, fmt.Sprintf("it is %s, not Ready", phaseOf(pc))
	case owner == nil:
		return false, "the pod has no controller"
	case saved == nil || saved.UID == "" || owner.UID != saved.UID:
		return false, "it is of another controller"
	case owner.Slot != saved.Slot:
		return false, fmt.Sprintf("it is of the slot %q, the pod is %q", saved.Slot, owner.Slot)
	case TemplateHash(pod) != pc.Status.TemplateHash:
		return false, "the pod's template has changed"
	}
	return true, "same controller, slot and template"
}

// SourceLost tells whether the checkpoint's source is known to have gone with its node.
func SourceLost(pc *v1alpha1.PodCheckpoint) bool {
	return meta.IsStatusConditionTrue(pc.Status.Conditions, v1alpha1.ConditionSourceLost)
}

func phaseOf(pc *v1alpha1.PodCheckpoint) v1alpha1.Phase {
	if pc.Status.Phase == "" {
		return v1alpha1.PhasePending
	}
	return pc.Status.Phase
}
