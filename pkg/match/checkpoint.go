// SPDX-License-Identifier: Apache-2.0

package match

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/wish"
)

// Request is what the maker of a PodCheckpoint decides. All else follows from the pod.
type Request struct {
	// Attempt is the number of the attempt, from 1.
	Attempt int
	// Reason is why the pod is saved.
	Reason v1alpha1.Reason
	// Deadline is when the checkpoint is of no more use; zero when it always is.
	Deadline time.Time
	// Fence is whether the pod stays frozen once it is saved.
	Fence bool
	// Removal is who ends the pod; empty is v1alpha1.RemovalNone.
	Removal v1alpha1.Removal
}

// NewCheckpoint is the PodCheckpoint of that pod and attempt. It goes with the pod's controller; without one it stays until the
// retention takes it.
func NewCheckpoint(pod *corev1.Pod, r Request) *v1alpha1.PodCheckpoint {
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace,
			Name:      Name(pod, r.Attempt),
			Labels:    map[string]string{v1alpha1.LabelPodUID: string(pod.UID)},
		},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: pod.Name, PodUID: pod.UID, NodeName: pod.Spec.NodeName, Reason: r.Reason, Fence: r.Fence,
			FenceSeconds:     int32(v1alpha1.DefaultFence / time.Second),
			MaxFreezeSeconds: int32(wish.MaxFreeze(pod) / time.Second),
			Removal:          r.Removal,
			Value:            wish.Value(pod),
			Priority:         ptr.Deref(pod.Spec.Priority, 0),
		},
	}
	if !r.Deadline.IsZero() {
		pc.Spec.Deadline = ptr.To(metav1.NewTime(r.Deadline))
	}
	if pc.Spec.Removal == "" {
		pc.Spec.Removal = v1alpha1.RemovalNone
	}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		pc.Labels[v1alpha1.LabelOwnerUID] = string(owner.UID)
		pc.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name, UID: owner.UID,
		}}
	}
	return pc
}
