// SPDX-License-Identifier: Apache-2.0

// Package termination tells which nodes are about to end, and when: from the taints by which clouds and autoscalers announce it, and from
// the annotation that keeps what was announced. All of it is pure.
package termination

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// MaxNotice is the longest notice that counts. A deadline further away, in an annotation that anybody who may write nodes may write, is
// none.
const MaxNotice = time.Hour

// Taint is one that announces the end of the node that has it, whatever its value and effect.
type Taint struct {
	// Key is the taint's key.
	Key string
	// Notice is how long after the taint came the node is there at least.
	Notice time.Duration
	// Voluntary is whether the node stays until its pods have gone, so that PodDisruptionBudgets are to be respected.
	Voluntary bool
	// Drained is whether its maker drains the node itself, once it can do without: Cryopod then keeps pods away from it, and saves its pods when
	// they are evicted, not sooner. A drained end is a voluntary one.
	Drained bool
}

// List are the taints that count. Nil is none; a key is in it at most once.
type List []Taint

// Defaults are the taints of the clouds and autoscalers, each with the notice that its maker gives. Autoscalers drain the node
// themselves, for as long as it takes.
func Defaults() List {
	const aws, short, drain = 120 * time.Second, 30 * time.Second, v1alpha1.DefaultDeadline
	return List{
		{Key: "aws-node-termination-handler/spot-itn", Notice: aws},
		{Key: "aws-node-termination-handler/scheduled-maintenance", Notice: aws, Voluntary: true},
		{Key: "aws-node-termination-handler/asg-lifecycle-termination", Notice: aws, Voluntary: true},
		{Key: "aws-node-termination-handler/rebalance-recommendation", Notice: aws, Voluntary: true},
		{Key: "cloud.google.com/impending-node-termination", Notice: short},
		{Key: "karpenter.sh/disrupted", Notice: drain, Voluntary: true, Drained: true},
		{Key: "karpenter.sh/disruption", Notice: drain, Voluntary: true, Drained: true},
		{Key: "ToBeDeletedByClusterAutoscaler", Notice: drain, Voluntary: true},
		{Key: "node.cloudprovider.kubernetes.io/shutdown", Notice: short},
		{Key: "remediator.kubernetes.azure.com/unschedulable", Notice: short},
	}
}

// Cordon is the entry that makes a cordoned node (spec.unschedulable, or the taint that Kubernetes adds to it) count as one that is about to
// be drained.
func Cordon() Taint {
	return Taint{Key: corev1.TaintNodeUnschedulable, Notice: v1alpha1.DefaultDeadline, Voluntary: true}
}

// Find is the entry of the key, and whether there is one.
func (l List) Find(key string) (Taint, bool) {
	i := slices.IndexFunc(l, func(t Taint) bool { return t.Key == key })
	if i < 0 {
		return Taint{}, false
	}
	return l[i], true
}

// Of is what the node's taints announce at that time, false when it is nothing. Of several, one that is not voluntary counts, then one that is
// not drained, and then the one that ends first. A notice begins when the node's annotation says, else when the taint says, else now.
func (l List) Of(node *corev1.Node, now time.Time) (Notice, bool) {
	var found []Notice
	for i := range l {
		if taint, ok := has(node, l[i].Key); ok {
			found = append(found, l[i].notice(node, taint, now))
		}
	}
	if len(found) == 0 {
		return Notice{}, false
	}
	return slices.MinFunc(found, moreUrgent), true
}

// has is the node's taint of that key, nil where only spec.unschedulable says so.
func has(node *corev1.Node, key string) (*corev1.Taint, bool) {
	for i := range node.Spec.Taints {
		if node.Spec.Taints[i].Key == key {
			return &node.Spec.Taints[i], true
		}
	}
	return nil, key == corev1.TaintNodeUnschedulable && node.Spec.Unschedulable
}

func (t Taint) notice(node *corev1.Node, taint *corev1.Taint, now time.Time) Notice {
	latest := now.Add(t.Notice)
	known, err := Decode(node.Annotations[v1alpha1.AnnotationNotice])
	// Nobody gets a longer notice by writing one. The clocks of replicas differ a little.
	if err == nil && known.Cause == t.Key && known.Voluntary == t.Voluntary && known.Drained == t.Drained && known.Deadline.Before(latest.Add(clockSkew)) {
		return known
	}
	since := now
	if taint != nil && taint.TimeAdded != nil && taint.TimeAdded.Time.Before(now) {
		since = taint.TimeAdded.Time
	}
	return Notice{Cause: t.Key, Since: since, Deadline: since.Add(t.Notice), Voluntary: t.Voluntary, Drained: t.Drained}
}

func moreUrgent(a, b Notice) int {
	switch {
	case a.Voluntary != b.Voluntary && a.Voluntary:
		return 1
	case a.Voluntary != b.Voluntary:
		return -1
	case a.Drained != b.Drained && a.Drained:
		return 1
	case a.Drained != b.Drained:
		return -1
	case !a.Deadline.Equal(b.Deadline):
		return a.Deadline.Compare(b.Deadline)
	}
	return strings.Compare(a.Cause, b.Cause)
}
