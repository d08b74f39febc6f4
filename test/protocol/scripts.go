// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	corev1 "k8s.io/api/core/v1"
	"time"

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

// Scripts are those that are explored.
func Scripts() []world.Script {
	return []world.Script{
		{Name: "drain", About: "a drain evicts the pod until it goes", MustGo: true, Users: []func(*world.User){drain}},
		{Name: "drain-gives-up", About: "a drain gives up after one answer, and nobody else comes", Users: []func(*world.User){drainOnce}},
		{Name: "two-drains", About: "two drains at once, of which one gives up", MustGo: true, Users: []func(*world.User){drain, drainOnce}},
		{Name: "two-containers", About: "a pod of two containers", MustGo: true, Containers: 2, Users: []func(*world.User){drain}},
		{Name: "two-pods", About: "two pods of one owner are evicted at once", MustGo: true, Pods: 2,
			Users: []func(*world.User){drain, func(u *world.User) { u.Drain("web-1", 0) }}},
		{Name: "statefulset", About: "the replacement has the pod's name", MustGo: true, Named: true, Users: []func(*world.User){drain}},
		{Name: "two-leaders", About: "two processes believe to lead", MustGo: true, Leaders: 2, Users: []func(*world.User){drain}},
		{Name: "refused", About: "the replacement is refused once after the webhook has seen it, and the webhook is called twice for each pod",
			MustGo: true, Refuse: 1, Reinvoke: true, Users: []func(*world.User){drain}},
		{Name: "restore-fails", About: "the target can't restore after all", MustGo: true, RestoreFails: true, Users: []func(*world.User){drain}},
		{Name: "autoscaler", About: "an autoscaler deletes the pod, and gives up after one answer", MustGo: true,
			Users: []func(*world.User){func(u *world.User) { u.Delete(autoscaler, pod, 1) }}},
		{Name: "termination", About: "a taint announces the node's end", MustGo: true,
			Users: []func(*world.User){func(u *world.User) {
				u.Taint(node, corev1.Taint{Key: "aws-node-termination-handler/spot-itn", Effect: corev1.TaintEffectNoSchedule})
			}}},
		{Name: "killed-meanwhile", About: "somebody deletes the pod while it is being saved", MustGo: true,
			Users: []func(*world.User){drain, func(u *world.User) {
				u.After(2 * time.Second)
				u.Terminate(pod)
			}}},
		{Name: "power-cut", About: "the pod is saved on schedule, its node dies, and its object is deleted", Annotations: everyMinute,
			Users: []func(*world.User){powerCut}},
		{Name: "scheduled-drain", About: "the pod is saved on schedule, and evicted meanwhile", MustGo: true, Annotations: everyMinute,
			Users: []func(*world.User){func(u *world.User) { u.Save(pod, 1) }, func(u *world.User) { u.After(time.Second); u.Drain(pod, 0) }}},
	}
}

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
