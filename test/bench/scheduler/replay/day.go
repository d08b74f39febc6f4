// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// notice is how long an interrupted node has, provision after how long the next one of its slot is there.
	notice    = 2 * time.Minute
	provision = 90 * time.Second

	// firstSave is how long it takes to save the first pod of a node that ends, nextSave each one after.
	firstSave = 4 * time.Second
	nextSave  = 2 * time.Second

	// drainEvery is how long a drain for an upgrade takes for each pod.
	drainEvery = 5 * time.Second

	// sampleEvery is how often the balance of load is looked at.
	sampleEvery = 15 * time.Minute
)

// day is a trace being played.
type day struct {
	*trace
	ctx    context.Context
	begin  time.Time
	placer *placer
	sums   sums

	now   time.Duration
	queue queue
	count int // of what was put into the queue, and of pods

	nodes       []*node // by slot; nil: there is none now
	generations []int
	byName      map[string]*node
	apps        []*app
	pending     []*pod
	failed      error
}

// play plays a trace, with the plugin or without.
func play(ctx context.Context, cfg Config, t *trace, plugin bool) (*sums, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := time.Date(2026, time.January, 5, 0, 0, 0, 0, time.UTC)
	p, err := newPlacer(ctx, cfg.SchedulerConfig, plugin, begin)
	if err != nil {
		return nil, err
	}
	d := &day{
		trace: t, ctx: ctx, begin: begin, placer: p,
		nodes: make([]*node, len(t.slots)), generations: make([]int, len(t.slots)), byName: map[string]*node{},
	}
	if err := d.open(); err != nil {
		return nil, err
	}
	for len(d.queue) > 0 && d.failed == nil {
		next := heap.Pop(&d.queue).(*action)
		if next.at > t.end {
			break
		}
		d.now = next.at
		p.clock.SetTime(begin.Add(d.now))
		next.do()
	}
	if d.failed != nil {
		return nil, fmt.Errorf("at %s of the trace: %w", d.now, d.failed)
	}
	return &d.sums, nil
}

// open makes the cluster, its owners' first pods, and puts into the queue what is going to happen.
func (d *day) open() error {
	for i, s := range d.slots {
		if !s.extra {
			d.join(i)
		}
	}
	for i := range d.owners {
		a := newApp(i, &d.owners[i])
		d.apps = append(d.apps, a)
		if err := d.placer.services.set(a.service()); err != nil {
			return err
		}
		d.at(0, func() { d.scale(a) })
	}
	for _, e := range d.events {
		d.at(e.at, func() { d.happen(e) })
	}
	for at := d.warmup; at <= d.end; at += sampleEvery {
		d.at(at, d.sample)
	}
	for at := gcEvery; at < d.end; at += gcEvery {
		d.at(at, d.collect)
	}
	return d.failed
}

// action is something to do at a time.
type action struct {
	at    time.Duration
	order int
	do    func()
}

// queue is a heap of actions: by time, and those of the same time in the order in which they were put in.
type queue []*action

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}

func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push is heap.Push's.
func (q *queue) Push(x any) { *q = append(*q, x.(*action)) }

// Pop is heap.Pop's.
func (q *queue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}

func (d *day) at(at time.Duration, do func()) {
	d.count++
	heap.Push(&d.queue, &action{max(at, d.now), d.count, do})
}

// must keeps the first error: the day ends with it.
func (d *day) must(err error) {
	if d.failed == nil {
		d.failed = err
	}
}

// happen does what the trace says.
func (d *day) happen(e event) {
	switch e.kind {
	case interrupted:
		if n := d.nodes[e.slot]; n != nil && !n.leaving {
			d.interrupt(n)
		}
	case upgraded:
		if n := d.nodes[e.slot]; n != nil && !n.leaving {
			d.at(d.now+provision, func() { d.join(e.slot); d.drain(n) })
		}
	case added:
		d.join(e.slot)
	case removed:
		if n := d.nodes[e.slot]; n != nil && !n.leaving {
			d.drain(n)
		}
	case rolledOut:
		a := d.apps[e.app]
		a.image = e.image
		d.reconcile(a)
	case scaled:
		d.scale(d.apps[e.app])
	}
}

// join has the next node of a slot come, empty.
func (d *day) join(slot int) {
	d.generations[slot]++
	n := newNode(slot, d.slots[slot], d.generations[slot], d.begin.Add(d.now))
	d.nodes[slot], d.byName[n.name] = n, n
	d.must(d.placer.nodes.set(n.object))
	d.tell(n)
	d.retry()
}

// leave keeps new pods off a node.
func (d *day) leave(n *node) {
	n.leaving = true
	n.object = n.object.DeepCopy()
	n.object.Spec.Unschedulable = true
	d.must(d.placer.nodes.set(n.object))
}

// interrupt plays the end of a spot node: its pods are saved one after the other, and another node is on its way.
func (d *day) interrupt(n *node) {
	d.leave(n)
	at := d.now + firstSave
	for _, p := range n.sorted() {
		d.at(at, func() { d.evict(p, n) })
		at += nextSave
	}
	d.at(d.now+provision, func() { d.join(n.slot) })
	d.at(d.now+notice, func() { d.endOf(n) })
}

// drain plays kubectl drain.
func (d *day) drain(n *node) {
	d.leave(n)
	at := d.now
	for _, p := range n.sorted() {
		d.at(at, func() { d.evict(p, n) })
		at += drainEvery
	}
	d.at(at+notice, func() { d.endOf(n) })
}

// endOf removes a node; what is still there is lost.
func (d *day) endOf(n *node) {
	for _, p := range n.sorted() {
		d.evict(p, n)
	}
	n.gone = true
	if d.nodes[n.slot] == n {
		d.nodes[n.slot] = nil
	}
	delete(d.byName, n.name)
	d.must(d.placer.nodes.remove("", n.name))
	d.must(d.placer.profiles.remove("", n.name))
}

// tell has what the kubelet and the agent say of a node's images in step with them, a little later.
func (d *day) tell(n *node) {
	if n.telling {
		return
	}
	n.telling = true
	d.at(d.now+settle, func() {
		n.telling = false
		if n.gone {
			return
		}
		d.must(d.placer.nodes.set(n.report(d.now)))
		d.must(d.placer.profiles.set(n.profile(d.now)))
	})
}

func (d *day) collect() {
	for _, n := range d.there() {
		if n.collect(d.now) {
			d.tell(n)
		}
	}
}

// there are the nodes that there are, in a fixed order: of a slot, the one that leaves comes before the next.
func (d *day) there() []*node {
	return slices.SortedFunc(maps.Values(d.byName), func(a, b *node) int {
		return cmp.Or(cmp.Compare(a.slot, b.slot), strings.Compare(a.name, b.name))
	})
}
