// SPDX-License-Identifier: Apache-2.0

package match

import (
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// RemovalOf is who ends the pod once the attempt is over: what its maker decided, or, since somebody has deleted the pod, we do.
func RemovalOf(pc *v1alpha1.PodCheckpoint) v1alpha1.Removal {
	switch {
	case meta.IsStatusConditionTrue(pc.Status.Conditions, v1alpha1.ConditionRemovalAsked):
		return v1alpha1.RemovalDelete
	case pc.Spec.Removal == "":
		return v1alpha1.RemovalNone
	}
	return pc.Spec.Removal
}

// CalledOff is why the pod is to stay after all, empty when it is not. A checkpoint that a pod goes on from can't be called off.
func CalledOff(pc *v1alpha1.PodCheckpoint) string {
	c := meta.FindStatusCondition(pc.Status.Conditions, v1alpha1.ConditionCalledOff)
	if c == nil || c.Status != "True" || pc.Status.Claim != nil || pc.Status.Phase == v1alpha1.PhaseClaimed {
		return ""
	}
	return c.Message
}
