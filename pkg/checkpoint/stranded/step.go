// SPDX-License-Identifier: Apache-2.0

package stranded

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const (
	// patience is how long the scheduler is absent, by its Lease, until pods that wait for it are replaced: a change of leader, and a start of
	// both replicas, take less.
	patience = 30 * time.Second

	// slack is how much later than the controllers a replica of the webhook may learn that the scheduler is away.
	slack = 10 * time.Second

	// pause is the time between two looks at a pod that waits. They cost the API server nothing.
	pause = 10 * time.Second
)

// Step is what is to be done about a pod. Its zero value is nothing.
type Step struct {
	// Replace is whether the pod is to go, so that its owner makes another one.
	Replace bool
	// After is when to look again; 0 is when something changes.
	After time.Duration
}

// Next is what is to be done about a pod, given since when Cryopod's scheduler has been seen to be away; zero is that it runs. A pod that was
// made after that is left: it asks for that scheduler by itself, and so would the next one of its owner.
func Next(pod *corev1.Pod, since, now time.Time) Step {
	if !Waits(pod) {
		return Step{}
	}
	if !since.IsZero() && now.Sub(since) >= patience && pod.CreationTimestamp.Time.Before(since.Add(slack)) {
		return Step{Replace: true}
	}
	return Step{After: pause}
}

// Waits tells whether the pod waits for Cryopod's scheduler to give it a node. One without an owner never does, for nobody would make
// another.
func Waits(pod *corev1.Pod) bool {
	return pod.Spec.SchedulerName == v1alpha1.SchedulerName && pod.Spec.NodeName == "" && len(pod.Spec.SchedulingGates) == 0 &&
		pod.DeletionTimestamp == nil && metav1.GetControllerOfNoCopy(pod) != nil
}
