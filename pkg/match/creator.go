// SPDX-License-Identifier: Apache-2.0

package match

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// allControllers is the user of all of Kubernetes' controllers where --use-service-account-credentials is off.
const allControllers = "system:kube-controller-manager"

// controllers are the ServiceAccounts in kube-system of Kubernetes' own workload controllers, by the group and kind that they make pods of.
var controllers = map[string]string{
	"apps/ReplicaSet":        "replicaset-controller",
	"apps/StatefulSet":       "statefulset-controller",
	"batch/Job":              "job-controller",
	"/ReplicationController": "replication-controller",
}

// ByItsController tells whether the user is the one of Kubernetes' own controllers that makes pods of that owner. Anybody who may create
// pods may write any owner into them; only the controller makes those that the owner wants.
func ByItsController(owner *v1alpha1.Owner, user string) bool {
	group, _, found := strings.Cut(owner.APIVersion, "/")
	if !found {
		group = ""
	}
	account, known := controllers[group+"/"+owner.Kind]
	return known && slices.Contains([]string{allControllers, "system:serviceaccount:kube-system:" + account}, user)
}

// SameCreator tells whether the user made the checkpointed pod too, as far as that was noted. What another one made, with the same owner
// written into it, is nothing that a pod of this user's may go on from, nor the other way round.
func SameCreator(pc *v1alpha1.PodCheckpoint, user string) bool {
	return pc.Status.Creator == "" || pc.Status.Creator == user
}

// Holds tells whether the pod was admitted with this very claim: it has the claim's ID, was made by the claim's user and, once the claim is
// bound, is the very pod. An ID alone is no proof: whoever may read pods can copy it.
func Holds(pod *corev1.Pod, claim *v1alpha1.Claim) bool {
	return claim != nil && claim.ID != "" && pod.Annotations[v1alpha1.AnnotationClaim] == claim.ID &&
		(claim.User == "" || pod.Annotations[v1alpha1.AnnotationCreator] == claim.User) &&
		(claim.PodUID == "" || claim.PodUID == pod.UID)
}
