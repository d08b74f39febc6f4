// SPDX-License-Identifier: Apache-2.0

// Package fault makes things go wrong on a local cluster, each really and so that it is seen to: the end-to-end tests' attack on
// Cryopod draws from it.
package fault

import (
	"context"
	"math/rand/v2"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// Undo ends a fault. It may be called more than once, and also when what the fault struck has died since.
type Undo func(context.Context) error

// Fault is one thing that goes wrong.
type Fault struct {
	// Name is one of a closed set: see All.
	Name string
	// Do makes it happen, and returns once it is seen to have happened. What it strikes among several it draws from r alone. undo, nil for
	// nothing to end, ends it, and has to be called also after ctx is done; detail is what was done exactly, for the history. When Do fails
	// there is nothing to undo.
	Do func(ctx context.Context, t *Target, r *rand.Rand) (undo Undo, detail string, err error)
}

// Target is what faults strike.
type Target struct {
	Bed *bed.Bed
	// Node is where the pod runs, or ran, that is being moved away: the source.
	Node string
	// Namespace is that of the pod.
	Namespace string
}

func (t *Target) source() (*cluster.Node, error) { return t.Bed.Cluster.Node(t.Node) }

// All are the faults, in a fixed order.
func All() []Fault {
	return []Fault{
		{"kill-agent", killAgent},
		{"kill-webhook", killOne("webhook")},
		{"kill-webhooks", killAll("webhook")},
		{"kill-scheduler", killAll("scheduler")},
		{"kill-containerd", killProgram("containerd")},
		{"kill-kubelet", killProgram("kubelet")},
		{"node-cut", cutNode},
		{"registry-down", stopRegistry},
	}
}

// ByName finds a fault.
func ByName(name string) (Fault, bool) {
	for _, f := range All() {
		if f.Name == name {
			return f, true
		}
	}
	return Fault{}, false
}
