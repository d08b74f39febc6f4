// SPDX-License-Identifier: Apache-2.0

package world

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/agent/source"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const (
	dumpTakes  = time.Second
	pushTakes  = 2 * time.Second // unless the script says otherwise
	agentRetry = 500 * time.Millisecond
)

// agent is one life of a node's agent: production's reconciler and ledger on a node that is not real.
type agent struct {
	*Proc
	n      *Node
	r      *source.Reconciler
	ledger string
}

// startAgent begins a life of the node's agent, with the ledger as the last one left it.
func (w *World) startAgent(n *Node) {
	w.lives++
	a := &agent{Proc: w.newProc("agent", oursFaults, true), n: n, ledger: filepath.Join(w.dir, fmt.Sprintf("ledger-%d", w.lives))}
	_ = os.Remove(a.ledger) // of another schedule
	if n.ledger != nil {
		if err := os.WriteFile(a.ledger, n.ledger, 0o600); err != nil {
			w.broken(err)
		}
	}
	ledger, err := fence.OpenLedger(a.ledger)
	if err != nil {
		w.broken(err)
		return
	}
	cached, live := &api{p: a.Proc}, &api{p: a.Proc, live: true}
	var q *queue
	a.r = &source.Reconciler{
		Client: cached, Live: live, Fence: containerd{a}, Ledger: ledger, Dumper: dumper{a}, Exporter: exporter{a}, Recorder: noRecord{},
		Processes:    processes{a},
		Requirements: func() *v1alpha1.Requirements { return &v1alpha1.Requirements{Arch: "amd64"} },
		Clock:        a.clock, MaxParallel: 2, Wake: func(key types.NamespacedName) { q.add(key) },
	}
	q = a.newQueue(agentRetry, func(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
		result, err := a.r.Reconcile(ctx, ctrl.Request{NamespacedName: key})
		return result.RequeueAfter, err
	})
	w.agent = a
	if rest := time.Until(n.cut); rest > 0 {
		w.cutOff(a.Proc, rest)
	}
	a.cache.tell = func(ch change) {
		if pc, ok := ch.object().(*v1alpha1.PodCheckpoint); ok && pc.Spec.NodeName == n.name {
			q.addObject(pc)
		}
	}
	for _, pc := range all[*v1alpha1.PodCheckpoint](a.cache.now) {
		q.addObject(pc)
	}
	for _, e := range ledger.All() {
		q.add(e.Checkpoint)
	}
}

// stopAgent kills the node's agent. What its program does to its ledger from now on did not happen.
func (w *World) stopAgent() {
	a := w.agent
	a.n.ledger, _ = os.ReadFile(a.ledger)
	w.kill(a.Proc)
}

// noRecord takes the agent's events.
type noRecord struct{}

func (noRecord) Event(*v1alpha1.PodCheckpoint, bool, string, string) {}

// containerd is the node's container runtime.
type containerd struct{ a *agent }

var errNoContainer = errors.New("no such container")

// State implements fence.Fence. It tells what is so at the moment that its caller is let run.
func (r containerd) State(_ context.Context, id string) (fence.State, error) {
	if c := r.a.n.find(id); c != nil {
		return c.state, nil
	}
	return fence.Gone, nil
}

// Freeze implements fence.Fence.
func (r containerd) Freeze(ctx context.Context, id string) error {
	return r.a.do(ctx, node, "freezes container "+id, func() error {
		c := r.a.n.find(id)
		if c == nil || c.state == fence.Gone {
			return fence.ErrGone
		}
		c.become(fence.Frozen)
		return nil
	})
}

// Thaw implements fence.Fence.
func (r containerd) Thaw(ctx context.Context, id string) error {
	return r.a.do(ctx, node, "thaws container "+id, func() error {
		if c := r.a.n.find(id); c != nil && c.state == fence.Frozen {
			c.become(fence.Running)
		}
		return nil
	})
}

// processes knows what runs on the node, whatever the API server says.
type processes struct{ a *agent }

// Running implements source.Processes.
func (p processes) Running(_ context.Context, pod types.UID) ([]fence.Container, error) {
	var out []fence.Container
	for _, c := range p.a.n.containers {
		if c.podUID == pod && c.state != fence.Gone {
			out = append(out, fence.Container{Name: c.name, ID: c.id})
		}
	}
	return out, nil
}

type dumper struct{ a *agent }

// Dump implements source.Dumper, with the kubelet and CRIU behind it.
func (d dumper) Dump(ctx context.Context, _, pod string, c fence.Container) (string, error) {
	n := d.a.n
	path := fmt.Sprintf("/archives/%s-%s-%d", pod, c.Name, time.Now().UnixNano())
	err := d.a.do(ctx, node, "dumps container "+c.ID, func() error {
		from := n.find(c.ID)
		if from == nil || from.state == fence.Gone {
			return errNoContainer
		}
		torn := false
		for _, other := range n.of(from.podUID) {
			torn = torn || other.state == fence.Running
		}
		n.archives[path] = &archive{mem: from.mem, step: from.at(), torn: torn}
		return nil
	})
	if err != nil {
		return "", err
	}
	return path, d.a.sleep(ctx, dumpTakes)
}

func (p *Proc) sleep(ctx context.Context, span time.Duration) error {
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

type exporter struct{ a *agent }

func tagOf(checkpoint types.NamespacedName, container string) string {
	return "registry/" + checkpoint.Namespace + ":" + checkpoint.Name + "." + container
}

// Export implements source.Exporter. From its first byte on the image has a name, and until the last one it is not complete.
func (e exporter) Export(ctx context.Context, p source.Part) (v1alpha1.ContainerCheckpoint, error) {
	w, n, tag := e.a.w, e.a.n, tagOf(p.Checkpoint, p.Container.Name)
	defer delete(n.archives, p.Archive)
	fenced := true
	if pc, ok := w.objects[ref{"PodCheckpoint", p.Checkpoint}].(*v1alpha1.PodCheckpoint); ok {
		fenced = pc.Spec.Fence
	}
	out := v1alpha1.ContainerCheckpoint{Name: p.Container.Name}
	from := n.archives[p.Archive]
	err := e.a.do(ctx, registry, "begins to push "+tag, func() error {
		w.images[tag] = &Image{tag: tag, mem: from.mem, step: from.step, torn: from.torn, fenced: fenced}
		return nil
	})
	if err == nil {
		err = e.a.sleep(ctx, cmp.Or(w.script.Push, pushTakes))
	}
	if err == nil {
		err = e.a.do(ctx, registry, "ends the push of "+tag, func() error {
			if w.images[tag] == nil {
				return errPull
			}
			w.images[tag].complete = true
			return nil
		})
	}
	if err != nil {
		return out, err
	}
	if w.script.PushFails {
		return out, errPull
	}
	out.Image, out.ImageTag, out.Bytes = tag+"@sha256:1", tag, 1<<20
	return out, nil
}

// Clean implements source.Exporter.
func (e exporter) Clean(context.Context, string, string, time.Time, time.Time) error {
	return nil
}

// Withdraw implements source.Exporter.
func (e exporter) Withdraw(ctx context.Context, checkpoint types.NamespacedName, containers []string) error {
	for _, c := range containers {
		tag := tagOf(checkpoint, c)
		if e.a.w.images[tag] == nil {
			continue
		}
		if err := e.a.do(ctx, registry, "removes "+tag, func() error { delete(e.a.w.images, tag); return nil }); err != nil {
			return err
		}
	}
	return nil
}
