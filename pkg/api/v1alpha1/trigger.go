// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Trigger is a way for a pod to go, as AnnotationOn names it.
type Trigger string

// The triggers.
const (
	// TriggerEviction is the Eviction API, and what drains by other means: "kubectl drain --disable-eviction", Karpenter past its
	// deadline, the kubelet's node-pressure eviction where it can be foreseen.
	TriggerEviction Trigger = "eviction"
	// TriggerTermination is the announced end of the node: a termination taint, a shutdown.
	TriggerTermination Trigger = "termination"
	// TriggerPreemption is a scheduler that makes room for a pod of higher priority.
	TriggerPreemption Trigger = "preemption"
	// TriggerDelete is everybody else's deletion of the pod, such as "kubectl delete pod".
	TriggerDelete Trigger = "delete"
)

// Triggers are all triggers.
func Triggers() []Trigger {
	return []Trigger{TriggerEviction, TriggerTermination, TriggerPreemption, TriggerDelete}
}

// The values of AnnotationOnFailure.
const (
	OnFailureEvict = "evict"
	OnFailureBlock = "block"
)
