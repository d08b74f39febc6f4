// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/protocol/world"
)

// pod is the one that the scripts are about, and node where it runs.
const (
	pod  = "web-0"
	node = "n1"
)

// autoscaler clears nodes by deletions.
const autoscaler = "system:serviceaccount:kube-system:cluster-autoscaler"

// drain evicts the pod until it goes, drainOnce gives up after one try.
func drain(u *world.User)     { u.Drain(pod, 0) }
func drainOnce(u *world.User) { u.Drain(pod, 1) }

// deleteOnce is an autoscaler that gives up when it is put off.
func deleteOnce(u *world.User) { u.Delete(autoscaler, pod, 1) }

// spot announces the node's end.
func spot(u *world.User) {
	u.Taint(node, corev1.Taint{Key: "aws-node-termination-handler/spot-itn", Effect: corev1.TaintEffectNoSchedule})
}

// slow is a push that takes longer than an eviction is held.
const slow = 25 * time.Second

// Scripts are those that are explored.
func Scripts() []world.Script {
	return slices.Concat(drains(), deletions(), schedules())
}

func drains() []world.Script {
	return []world.Script{
		{Name: "drain", About: "a drain evicts the pod until it goes", MustGo: true, Users: users(drain)},
		{Name: "drain-gives-up", About: "a drain gives up when it is put off, and nobody else comes", Push: slow, Users: users(drainOnce)},
		{Name: "late-drain", About: "a drain gives up, and another one comes when the fence has ended", Push: slow, MustGo: true,
			Users: users(drainOnce, func(u *world.User) { u.After(60500 * time.Millisecond); drain(u) })},
		{Name: "two-drains", About: "two drains at once, of which one gives up", MustGo: true, Users: users(drain, drainOnce)},
		{Name: "two-containers", About: "a pod of two containers", MustGo: true, Containers: 2, Users: users(drain)},
		{Name: "two-pods", About: "two pods of one owner are evicted at once", MustGo: true, Pods: 2,
			Users: users(drain, func(u *world.User) { u.Drain("web-1", 0) })},
		{Name: "statefulset", About: "the replacement has the pod's name", MustGo: true, Named: true, Users: users(drain)},
		{Name: "two-leaders", About: "two processes believe to lead", MustGo: true, Leaders: 2, Users: users(drain)},
		{Name: "refused", About: "the replacement is refused once after the webhook has seen it, and the webhook is called twice for each pod",
			MustGo: true, Refuse: 1, Reinvoke: true, Users: users(drain)},
		{Name: "restore-fails", About: "the target can't restore after all", MustGo: true, RestoreFails: true, Users: users(drain)},
		{Name: "push-fails", About: "no push succeeds, and the pod is to be blocked by that until its deadline", MustGo: true, PushFails: true,
			Annotations: map[string]string{v1alpha1.AnnotationOnFailure: v1alpha1.OnFailureBlock}, Users: users(drain)},
		{Name: "scale-up", About: "the owner wants another pod while the first one stands still, and the drain gives up", Push: slow,
			Users: users(drainOnce, func(u *world.User) { u.After(30 * time.Second); u.Scale(2) })},
		{Name: "ends-later", About: "the restored container ends by itself, once the agent has looked at it", MustGo: true, Crashes: true,
			Most: 1, Users: users(drain)},
		{Name: "agent-stops", About: "the agent is stopped while the pod stands still, and the drain gives up", Push: slow,
			Users: users(drainOnce, func(u *world.User) { u.After(30 * time.Second); u.StopAgent() })},
	}
}

func deletions() []world.Script {
	return []world.Script{
		{Name: "autoscaler", About: "an autoscaler deletes the pod, and gives up when it is put off", MustGo: true, Push: slow, Users: users(deleteOnce)},
		{Name: "autoscaler-fails", About: "the same, and the pod can't be saved", MustGo: true, Push: slow, PushFails: true, Users: users(deleteOnce)},
		{Name: "joined", About: "an autoscaler's deletion joins a drain's attempt, and both give up", IfPromised: true, Push: slow,
			Users: users(drainOnce, func(u *world.User) { u.After(10 * time.Second); deleteOnce(u) })},
		{Name: "termination", About: "a taint announces the node's end", MustGo: true, Users: users(spot)},
		{Name: "killed-meanwhile", About: "somebody deletes the pod while it is being saved", MustGo: true,
			Users: users(drain, func(u *world.User) { u.After(2 * time.Second); u.Terminate(pod) })},
		{Name: "checkpoint-deleted", About: "somebody deletes the PodCheckpoint when it is claimed", MustGo: true,
			Users: users(drain, func(u *world.User) { u.After(3500 * time.Millisecond); u.DeleteCheckpoints() })},
		{Name: "replacement-deleted", About: "somebody deletes the replacement by force before it runs", MustGo: true,
			Users: users(drain, func(u *world.User) { u.After(3500 * time.Millisecond); u.ForceReplacements() })},
	}
}

func schedules() []world.Script {
	return []world.Script{
		{Name: "power-cut", About: "the pod is saved on schedule, its node dies, and the node's object is deleted", Annotations: everyMinute,
			Users: users(powerCut)},
		{Name: "unreachable", About: "the pod is saved on schedule, and its node, which lives, is cut off until the pod is deleted", MustGo: true,
			Annotations: everyMinute, Users: users(unreachable)},
		{Name: "node-deleted", About: "the pod is saved on schedule, and the object of its node, which lives, is deleted", Most: world.FairOnly,
			Annotations: everyMinute, Users: users(nodeDeleted)},
		{Name: "out-of-service", About: "the same, and the node is cut off for a while and marked as out of service", Most: world.FairOnly,
			Annotations: everyMinute, Users: users(outOfService)},
		{Name: "scheduled-drain", About: "the pod is saved on schedule, and evicted meanwhile", MustGo: true, Annotations: everyMinute,
			Users: users(func(u *world.User) { u.Save(pod, 1) }, func(u *world.User) { u.After(time.Second); drain(u) })},
	}
}

func users(all ...func(*world.User)) []func(*world.User) { return all }

var everyMinute = map[string]string{v1alpha1.AnnotationInterval: "1m"}

// powerCut saves the pod, then its node dies for good, and Kubernetes collects the pod.
func powerCut(u *world.User) {
	u.Save(pod, 1)
	u.After(20 * time.Second)
	u.PowerOff(node)
	u.After(40 * time.Second)
	u.Unreachable(node)
	u.After(20 * time.Second)
	u.DeleteNode(node)
	u.After(40 * time.Second)
	u.Collect(pod)
}

// unreachable saves the pod, then its node is cut off, the taint manager deletes the pod, and the node comes back.
func unreachable(u *world.User) {
	u.Save(pod, 1)
	u.After(20 * time.Second)
	u.CutOff(node, 2*time.Minute)
	u.After(40 * time.Second)
	u.Unreachable(node)
	u.After(30 * time.Second)
	u.Terminate(pod)
	u.After(50 * time.Second)
	u.Heard(node)
}

// nodeDeleted saves the pod; then somebody deletes the object of its node, which lives, and Kubernetes collects the pod.
func nodeDeleted(u *world.User) {
	u.Save(pod, 1)
	u.After(20 * time.Second)
	u.DeleteNode(node)
	u.After(40 * time.Second)
	u.Collect(pod)
}

// outOfService saves the pod; its node is not heard of for a while, and somebody says that it is off, which it is not.
func outOfService(u *world.User) {
	u.Save(pod, 1)
	u.After(20 * time.Second)
	u.Unreachable(node)
	u.After(30 * time.Second)
	u.Taint(node, corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute})
	u.Terminate(pod)
	u.After(5 * time.Second)
	u.Force(pod)
	u.After(30 * time.Second)
	u.Heard(node)
}
