// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// departures are the nodes that may end. In most clusters and at most times there is none, and nobody has to look at thousands of nodes for each pod.
type departures struct {
	// synced reports whether all nodes have been seen.
	synced func() bool

	mu    sync.Mutex
	nodes sets.Set[string]
}

func (d *departures) seen(name string, mayEnd bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if mayEnd {
		d.nodes.Insert(name)
	} else {
		d.nodes.Delete(name)
	}
}

// none reports whether no node is known to end.
func (d *departures) none() bool {
	if !d.synced() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.nodes.Len() == 0
}

// mayEnd reports whether ending may tell something of the node, for some pod and at some time.
func mayEnd(node *corev1.Node) bool {
	if _, noticed := node.Annotations[v1alpha1.AnnotationNotice]; noticed {
		return true
	}
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return evicts(&t) })
}
