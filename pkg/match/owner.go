// SPDX-License-Identifier: Apache-2.0

package match

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// OwnerOf is the pod's controller with the place that the pod has in it, nil for a pod without a controller.
//
// Pods of a ReplicaSet, of a ReplicationController and of a Job without indexes stand in for one another: their slot is empty.
// A pod of an indexed Job has its index as slot. Of any other controller a pod that was given a fixed name (StatefulSet, most
// operators) has that name as slot, and pods named by generateName are taken to be interchangeable.
func OwnerOf(pod *corev1.Pod) *v1alpha1.Owner {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return nil
	}
	return &v1alpha1.Owner{
		UID: ref.UID, APIVersion: ref.APIVersion, Kind: ref.Kind, Name: ref.Name, Slot: slot(pod, ref.Kind),
	}
}

func slot(pod *corev1.Pod, kind string) string {
	switch kind {
	case "ReplicaSet", "ReplicationController":
		return ""
	case "Job":
		if index, ok := pod.Annotations[batchv1.JobCompletionIndexAnnotation]; ok {
			return index
		}
		return pod.Labels[batchv1.JobCompletionIndexAnnotation]
	case "StatefulSet":
		return pod.Name
	}
	if pod.GenerateName != "" {
		return ""
	}
	return pod.Name
}
