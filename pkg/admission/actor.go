// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/wish"
)

// DefaultEvictingUsers are those who delete pods to clear nodes, as patterns of path.Match: their deletions count as evictions.
var DefaultEvictingUsers = []string{
	"system:serviceaccount:*:karpenter*",
	"system:serviceaccount:*:*cluster-autoscaler*",
	"system:serviceaccount:*:*descheduler*",
	"system:serviceaccount:*:*node-termination-handler*",
	"cluster-autoscaler", "system:cluster-autoscaler",
}

// The users of Kubernetes' own parts. With --use-service-account-credentials, which is the rule, each controller has an account of its
// own in kube-system; without it all are userControllers.
const (
	userScheduler   = "system:kube-scheduler"
	userControllers = "system:kube-controller-manager"
	userOwn         = "system:serviceaccount:" + schedulerNamespace + ":cryopod-scheduler"
	userOwnWebhook  = "system:serviceaccount:" + schedulerNamespace + ":cryopod-webhook"
	userOwnAgent    = "system:serviceaccount:" + schedulerNamespace + ":cryopod-agent"
	kubelets        = "system:node:"
	controllers     = "system:serviceaccount:kube-system:"
)

// The reasons of the condition DisruptionTarget by which system actors say why they delete a pod, see KEP-3329. Those of the taint
// managers are not in the API's packages.
const (
	reasonTaint       = "DeletionByTaintManager"
	reasonDeviceTaint = "DeletionByDeviceTaintManager"
	reasonPodGC       = "DeletionByPodGC"
)

// Deletion is who deletes a pod, and how.
type Deletion struct {
	// User is who asked.
	User string
	// Pod is the pod as it was when the request came.
	Pod *corev1.Pod
	// Options are those of the request. The API server has filled in the grace period before it asks.
	Options *metav1.DeleteOptions
	// Node is the pod's node, nil where it is gone or was not looked at.
	Node *corev1.Node
	// Ends is whether the node's end is announced.
	Ends bool
	// Evicting are patterns of users whose deletions count as evictions.
	Evicting []string
}

// ActorOf tells which way to go a deletion is, empty when it is none that a pod is saved for, and why. What people's own deletions
// are depends on the node: without it they are v1alpha1.TriggerDelete.
func ActorOf(d Deletion) (t v1alpha1.Trigger, why string) {
	target := disruption(d.Pod)
	switch {
	case d.Pod.DeletionTimestamp != nil:
		return "", "the pod is terminating already"
	case strings.HasPrefix(d.User, kubelets):
		return "", "kubelets delete what has ended"
	case d.User == userOwnWebhook, d.User == userOwnAgent:
		return "", "Cryopod itself ends a pod that is saved, or can't be"
	case d.forced():
		return "", "it is to go at once (grace period 0)"
	case target == reasonPodGC || d.User == controllers+"pod-garbage-collector":
		return "", "the pod garbage collector deletes what has ended, or whose node is gone"
	case matches(d.Evicting, d.User):
		return v1alpha1.TriggerEviction, fmt.Sprintf("%q clears nodes", d.User)
	case d.byControllers() && (target == reasonTaint || target == reasonDeviceTaint):
		return v1alpha1.TriggerTermination, "the taint manager deletes it"
	case d.byControllers():
		return "", "a controller deletes it, as its owner wants fewer or other pods"
	case d.User == userScheduler, d.User == userOwn, target == corev1.PodReasonPreemptionByScheduler:
		return v1alpha1.TriggerPreemption, "a scheduler makes room"
	case d.Ends && wish.Triggered(d.Pod, v1alpha1.TriggerTermination):
		return v1alpha1.TriggerTermination, "the node's end is announced"
	case (d.Ends || d.Node != nil && d.Node.Spec.Unschedulable) && wish.Triggered(d.Pod, v1alpha1.TriggerEviction):
		return v1alpha1.TriggerEviction, "the node is being cleared"
	}
	return v1alpha1.TriggerDelete, "somebody deletes it"
}

// disruption is the reason of the pod's condition DisruptionTarget, empty where that is not true.
func disruption(pod *corev1.Pod) string {
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget })
	if i < 0 || pod.Status.Conditions[i].Status != corev1.ConditionTrue {
		return ""
	}
	return pod.Status.Conditions[i].Reason
}

// byControllers tells whether one of Kubernetes' controllers asked: those of workloads, of namespaces, of garbage.
func (d Deletion) byControllers() bool {
	return d.User == userControllers || strings.HasPrefix(d.User, controllers) &&
		(strings.HasSuffix(d.User, "-controller") || strings.HasSuffix(d.User, "-collector"))
}

// forced tells whether the pod is to be gone without waiting for its kubelet. A pod whose own grace period is 0 looks the same with any
// deletion, and counts as not forced.
func (d Deletion) forced() bool {
	return d.Options != nil && d.Options.GracePeriodSeconds != nil && *d.Options.GracePeriodSeconds == 0 && ownGrace(d.Pod) != 0
}

// given is the time that is left to the pod according to one who clears nodes, who knows when the node goes: Karpenter deletes what is
// left of a node with the rest of the node's time as grace period. False where the grace period is the pod's own.
func (d Deletion) given() (time.Duration, bool) {
	if d.Options == nil || d.Options.GracePeriodSeconds == nil || !matches(d.Evicting, d.User) {
		return 0, false
	}
	grace := *d.Options.GracePeriodSeconds
	return time.Duration(grace) * time.Second, grace > 0 && grace != ownGrace(d.Pod)
}

func ownGrace(pod *corev1.Pod) int64 {
	return ptr.Deref(pod.Spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
}

// matches tells whether one of the patterns is the user's. Options.Validate has seen that they can be read.
func matches(patterns []string, user string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, user)
		return ok && err == nil
	})
}
