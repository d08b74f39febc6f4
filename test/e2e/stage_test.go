// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// What a test may do to the cluster decides when it runs:
//   - one that disturbs everybody, as it takes parts of Cryopod or of the control plane away, is a test that never calls Parallel: these
//     come first, one after the other, in the order of the files' names, and nothing runs beside them;
//   - one that wants the cluster for itself only in the end calls alone when it has come that far;
//   - all others run beside each other, by inParallel or, where they wait rather than work, by inBackground.
//
// Within the last two, nodes belong to somebody: see common, doomed, mortal and shaken.

// scenes is how many tests of inParallel run at a time: more would make each other wait for the machine.
const scenes = 6

var (
	slots = make(chan struct{}, scenes)
	// busy has those that run beside each other and have not ended.
	busy crowd
)

// inParallel runs a test beside the others of its kind, a few at a time.
func inParallel(t *testing.T, name string, run func(*testing.T)) {
	t.Helper()
	inBackground(t, name, func(t *testing.T) {
		came := time.Now()
		slots <- struct{}{}
		defer func() { <-slots }()
		// The time that go test shows has it in it.
		t.Logf("waited %.0f s for its turn", time.Since(came).Seconds())
		run(t)
	})
}

// inBackground runs a long test beside all others, from the beginning.
func inBackground(t *testing.T, name string, run func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		beside(t)
		run(t)
	})
}

// beside makes the test one of those that run beside each other.
func beside(t *testing.T) {
	busy.enter(t)
	t.Cleanup(func() { busy.leave(t) })
	t.Parallel()
}

// crowd is a set of tests.
type crowd struct {
	mu sync.Mutex
	in []*testing.T
}

func (c *crowd) enter(t *testing.T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = append(c.in, t)
}

func (c *crowd) leave(t *testing.T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = slices.DeleteFunc(c.in, func(other *testing.T) bool { return other == t })
}

func (c *crowd) others(t *testing.T) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, other := range c.in {
		if other != t {
			names = append(names, other.Name())
		}
	}
	return names
}

// alone returns when t is the last one of those that run beside each other. Only one test may call it.
func alone(t *testing.T) {
	t.Helper()
	for others := busy.others(t); len(others) > 0; others = busy.others(t) {
		select {
		case <-t.Context().Done():
			t.Fatalf("waiting for the end of %q: %v", others, t.Context().Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// pair are two nodes between which pods move.
type pair struct {
	names []string
	gate
}

var (
	// common are the nodes of all who do not say otherwise.
	common = &pair{names: []string{"node-1", "node-2"}}
	// shaken are those whose agents and runtimes are restarted.
	shaken = &pair{names: []string{"node-5", "node-6"}}
)

// other is the one of the two that is not of that name.
func (p *pair) other(name string) (*cluster.Node, error) {
	if p.names[0] == name {
		return testbed.Cluster.Node(p.names[1])
	}
	return testbed.Cluster.Node(p.names[0])
}

// whileOpen does what needs a node of the pod that nobody drains: on one that is drained, a deletion counts as an eviction.
func (s *scene) whileOpen(pod *corev1.Pod, do func()) {
	s.t.Helper()
	s.nodes.enter(s.otherNode(pod).Name())
	defer s.nodes.leave(s.uncordon)
	do()
}

// gate lets drains of one node run beside each other, and none of the other node meanwhile: each takes a node out of two away.
type gate struct {
	mu sync.Mutex
	// node is whose drains run, and how many.
	node    string
	running int
	// waiting are the drains of the other node. All of them are let in at once, before the next of this one.
	waiting map[string][]chan struct{}
}

func (g *gate) enter(node string) {
	g.mu.Lock()
	if g.running == 0 || g.node == node && len(g.waiting) == 0 {
		g.node = node
		g.running++
		g.mu.Unlock()
		return
	}
	let := make(chan struct{})
	if g.waiting == nil {
		g.waiting = map[string][]chan struct{}{}
	}
	g.waiting[node] = append(g.waiting[node], let)
	g.mu.Unlock()
	<-let
}

// leave ends a drain; open is called with the end of the last one, before the next node's begin.
func (g *gate) leave(open func(node string)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running--; g.running > 0 {
		return
	}
	open(g.node)
	next := g.next()
	g.running = len(g.waiting[next])
	for _, let := range g.waiting[next] {
		close(let)
	}
	delete(g.waiting, next)
	g.node = next
}

// next is the node whose drains come next: the other one's, if any wait.
func (g *gate) next() string {
	for node := range g.waiting {
		if node != g.node {
			return node
		}
	}
	return g.node
}

// leaving are the namespaces of scenes that are over. They are gone before the cluster is.
var leaving struct {
	sync.Mutex
	namespaces []string
}

// forget has a namespace go by itself, and returns when its pods are gone.
func forget(ctx context.Context, namespace string) error {
	leaving.Lock()
	leaving.namespaces = append(leaving.namespaces, namespace)
	leaving.Unlock()
	return testbed.EmptyNamespace(ctx, namespace)
}

// forgotten returns when all of them are gone, or says which one is not.
func forgotten(ctx context.Context) error {
	leaving.Lock()
	defer leaving.Unlock()
	for _, namespace := range leaving.namespaces {
		if err := testbed.RemoveNamespace(ctx, namespace); err != nil {
			return err
		}
	}
	return nil
}
