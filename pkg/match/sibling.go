// SPDX-License-Identifier: Apache-2.0

package match

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Bearing is what another checkpoint of the same pod means for a Ready one without a fence. As long as it is not BearingNone, starting from
// the one without a fence could bring the same process to life twice, or from an older memory than need be.
type Bearing int

// The bearings, the weightier ones last.
const (
	// BearingNone: the other one is out of the way for good, or older.
	BearingNone Bearing = iota
	// BearingNewer: the other one is Ready, without a fence as well, and newer.
	BearingNewer
	// BearingUnderWay: the other one has a fence and may be Ready yet.
	BearingUnderWay
	// BearingFenced: the other one has a fence and is Ready. It is the pod's last word.
	BearingFenced
	// BearingClaimed: a pod starts, or has started, from the other one.
	BearingClaimed
)

// Bears tells what the other checkpoint of the same pod means for the one without a fence.
func Bears(pc, other *v1alpha1.PodCheckpoint) Bearing {
	phase := other.Status.Phase
	switch {
	case other.Name == pc.Name, other.Spec.PodUID != pc.Spec.PodUID, other.Namespace != pc.Namespace:
		return BearingNone
	case other.Status.Claim != nil:
		return BearingClaimed
	case phase.Final():
		return BearingNone
	case other.Spec.Fence && phase == v1alpha1.PhaseReady:
		return BearingFenced
	case other.Spec.Fence:
		return BearingUnderWay
	case phase == v1alpha1.PhaseReady && Attempt(other.Name) > Attempt(pc.Name):
		return BearingNewer
	}
	return BearingNone
}

// Weightiest is the weightiest bearing of the others on the checkpoint, and whose it is; BearingNone and nil when none of them matters.
func Weightiest(pc *v1alpha1.PodCheckpoint, others []v1alpha1.PodCheckpoint) (Bearing, *v1alpha1.PodCheckpoint) {
	top, whose := BearingNone, (*v1alpha1.PodCheckpoint)(nil)
	for i := range others {
		if b := Bears(pc, &others[i]); b > top {
			top, whose = b, &others[i]
		}
	}
	return top, whose
}

// Restarted is the name of a container that the checkpoint has and that, in the pod as it is, has ended or was started again since the
// checkpoint's cut; empty when there is none. A process that ended on its own is not brought back.
func Restarted(pod *corev1.Pod, pc *v1alpha1.PodCheckpoint) string {
	saved := map[string]bool{}
	for i := range pc.Status.Containers {
		saved[pc.Status.Containers[i].Name] = true
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if s := &list[i]; saved[s.Name] && (s.State.Running == nil || s.State.Running.StartedAt.After(cut(pc))) {
				return s.Name
			}
		}
	}
	return ""
}
