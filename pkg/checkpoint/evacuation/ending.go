// SPDX-License-Identifier: Apache-2.0

package evacuation

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/termination"
)

// Ending is why and until when pods are to leave a node.
type Ending struct {
	termination.Notice
	// Node is the node's name.
	Node string
	// Trigger is what pods have to wish to be saved for.
	Trigger v1alpha1.Trigger
	// Reason is that of the PodCheckpoints.
	Reason v1alpha1.Reason
	// Removal is how pods are ended.
	Removal v1alpha1.Removal
	// Lead is how long before the deadline the pods should be on their way. Agents leave it in their notices themselves.
	Lead time.Duration
	// Only are the pods that are meant, in the order in which they are to go; empty: all of the node.
	Only []types.UID
}

// Endings are those of the node at that time, the most urgent first: what its annotation announces, and what its agent does. A node that
// somebody else drains has none of the former. Profile is nil when it has none.
func Endings(node *corev1.Node, profile *v1alpha1.NodeProfile, now time.Time) []Ending {
	var found []Ending
	if n, ok := termination.Running(node, now); ok && !n.Drained {
		e := Ending{
			Notice: n, Node: node.Name, Trigger: v1alpha1.TriggerTermination, Reason: v1alpha1.ReasonTermination, Removal: v1alpha1.RemovalDelete,
			Lead: n.Margin(),
		}
		if n.Voluntary {
			e.Removal = v1alpha1.RemovalEvict
		}
		found = append(found, e)
	}
	if profile != nil && profile.Status.Notice != nil {
		n := profile.Status.Notice
		e := Ending{
			Notice: termination.Notice{Cause: string(n.Cause), Since: n.Since.Time, Deadline: n.Deadline.Time},
			Node:   node.Name, Trigger: v1alpha1.TriggerTermination, Reason: v1alpha1.ReasonTermination, Removal: v1alpha1.RemovalDelete, Only: n.Pods,
		}
		if n.Cause == v1alpha1.NoticeMemoryPressure {
			e.Trigger, e.Reason = v1alpha1.TriggerEviction, v1alpha1.ReasonEviction
		}
		if e.RunsAt(now) {
			found = append(found, e)
		}
	}
	slices.SortStableFunc(found, func(a, b Ending) int {
		switch {
		case a.Voluntary == b.Voluntary:
			return a.Deadline.Compare(b.Deadline)
		case a.Voluntary:
			return 1
		}
		return -1
	})
	return found
}
