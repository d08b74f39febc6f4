// SPDX-License-Identifier: Apache-2.0

package expiry

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// desiredReplicas is what the Deployment controller writes on each of its ReplicaSets: how many pods the Deployment should have.
const desiredReplicas = "deployment.kubernetes.io/desired-replicas"

// NewOwner is an empty object of the kind of the checkpoint's owner, nil for a kind of which it can't be told whether it lacks a pod.
func NewOwner(o *v1alpha1.Owner) client.Object {
	if o == nil {
		return nil
	}
	switch o.APIVersion + "/" + o.Kind {
	case "apps/v1/ReplicaSet":
		return &appsv1.ReplicaSet{}
	case "apps/v1/StatefulSet":
		return &appsv1.StatefulSet{}
	case "batch/v1/Job":
		return &batchv1.Job{}
	}
	return nil
}

// NotWanted is the rule by which no pod is going to stand in for the one that the checkpoint saves: its owner has all the pods that it
// should have, or wants this one no more. Empty while a pod may come. The owner is as the API server has it, nil when it is gone; the pods
// are those of the namespace that are known to be there: one that is not known only makes the checkpoint wait for longer.
func NotWanted(pc *v1alpha1.PodCheckpoint, owner client.Object, pods []corev1.Pod) string {
	of := pc.Status.Owner
	name := fmt.Sprintf("%s %q", of.Kind, of.Name)
	if owner == nil || owner.GetUID() != of.UID {
		return name + " is gone"
	}
	if owner.GetDeletionTimestamp() != nil {
		return name + " is being deleted"
	}
	has := active(pods, of)
	switch o := owner.(type) {
	case *appsv1.ReplicaSet:
		return ofReplicaSet(name, o, has)
	case *appsv1.StatefulSet:
		return ofStatefulSet(name, o, of.Slot)
	case *batchv1.Job:
		return ofJob(name, o, of.Slot, has)
	}
	return ""
}

func ofReplicaSet(name string, rs *appsv1.ReplicaSet, has int32) string {
	wants := ptr.Deref(rs.Spec.Replicas, 1)
	desired, err := strconv.Atoi(rs.Annotations[desiredReplicas])
	switch {
	case wants == 0 && err == nil && desired > 0:
		return name + " was scaled to 0 by a rollout"
	case wants == 0:
		return name + " was scaled to 0"
	case has >= wants:
		return fmt.Sprintf("%s has the %d pod(s) that it should have", name, wants)
	}
	return ""
}

func ofStatefulSet(name string, set *appsv1.StatefulSet, slot string) string {
	ordinal, err := strconv.Atoi(strings.TrimPrefix(slot, set.Name+"-"))
	if err != nil {
		return ""
	}
	first := 0
	if set.Spec.Ordinals != nil {
		first = int(set.Spec.Ordinals.Start)
	}
	wants := int(ptr.Deref(set.Spec.Replicas, 1))
	if ordinal < first || ordinal >= first+wants {
		return fmt.Sprintf("%s was scaled to %d, which leaves out %s", name, wants, slot)
	}
	return ""
}

func ofJob(name string, job *batchv1.Job, slot string, has int32) string {
	for i := range job.Status.Conditions {
		c := &job.Status.Conditions[i]
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			return fmt.Sprintf("%s is over (%s)", name, c.Type)
		}
	}
	wants := ptr.Deref(job.Spec.Parallelism, 1)
	if n := job.Spec.Completions; n != nil {
		wants = min(wants, *n-job.Status.Succeeded)
	}
	switch {
	case ptr.Deref(job.Spec.Suspend, false):
		return name + " is suspended"
	case slot != "" && covers(job.Status.CompletedIndexes, slot):
		return fmt.Sprintf("%s has completed the index %s", name, slot)
	case slot != "" && covers(ptr.Deref(job.Status.FailedIndexes, ""), slot):
		return fmt.Sprintf("%s has given up the index %s", name, slot)
	case slot == "" && has >= wants:
		return fmt.Sprintf("%s has the %d pod(s) that it should have", name, max(wants, 0))
	}
	return ""
}

// covers tells whether a Job's list of indexes ("1,3-5,7") has that one.
func covers(list, index string) bool {
	n, err := strconv.Atoi(index)
	if err != nil {
		return false
	}
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 == nil && err2 == nil && first <= n && n <= last {
			return true
		}
	}
	return false
}

// active is how many pods the owner has that count for it: neither over nor about to go.
func active(pods []corev1.Pod, of *v1alpha1.Owner) int32 {
	var n int32
	for i := range pods {
		p := &pods[i]
		ref := metav1.GetControllerOfNoCopy(p)
		if ref != nil && ref.UID == of.UID && p.DeletionTimestamp == nil &&
			p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			n++
		}
	}
	return n
}

// Surplus ends a checkpoint for which no pod is going to come, by the rule that NotWanted gave.
func Surplus(pc *v1alpha1.PodCheckpoint, rule string, now time.Time) Step {
	message := fmt.Sprintf("%s: no pod stands in for pod %q", rule, pc.Spec.PodName)
	status := pc.Status.DeepCopy()
	status.Enter(v1alpha1.PhaseExpired, message, now)
	return Step{
		Status: status, Outcome: metrics.OutcomeExpired,
		Event: event.Event{Type: corev1.EventTypeNormal, Reason: event.ReasonNotOffered, Action: "GiveUp", Message: message},
	}
}
