// SPDX-License-Identifier: Apache-2.0

package world

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Proc is one life of a process.
type Proc struct {
	// Name is the process's, the same in each life.
	Name string

	w      *World
	dead   atomic.Bool
	ctx    context.Context
	cancel context.CancelFunc
	cache  *cache
	clock  *procClock
	faults faults
	queues int
	cut    time.Time // cut off from the API server until then
}

// faults are what may go wrong with a process.
type faults int

const (
	// steady: nothing; it only takes its time.
	steady faults = iota
	// clientFaults: its requests fail.
	clientFaults
	// oursFaults: it crashes as well, its clock jumps, its caches lag behind, and it is cut off.
	oursFaults
)

func (p *Proc) gone() bool { return p.dead.Load() }

func (p *Proc) cutOff() bool { return time.Now().Before(p.cut) }

// kill ends a process between two of its calls.
func (w *World) kill(p *Proc) {
	p.dead.Store(true)
	p.cancel()
	if p.cache != nil {
		w.drop(p.cache)
	}
	w.mu.Lock()
	keep := w.pending[:0]
	for _, o := range w.pending {
		if o.p == p {
			o.reply <- verdict{die: true}
			continue
		}
		keep = append(keep, o)
	}
	w.pending = keep
	w.mu.Unlock()
}

// newProc begins a life. A process that reads from caches gets them filled.
func (w *World) newProc(name string, f faults, watches bool) *Proc {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proc{Name: name, w: w, ctx: ctx, cancel: cancel, faults: f, clock: &procClock{}}
	if watches {
		p.cache = w.newCache()
	}
	w.procs[name] = p
	return p
}

// procClock is a process's clock: the world's, which may be wrong by an offset.
type procClock struct {
	clock.RealClock
	offset atomic.Int64
}

func (c *procClock) Now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

func (c *procClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

func (c *procClock) jump(by time.Duration) { c.offset.Add(int64(by)) }

// noEvents takes events and forgets them.
type noEvents struct{}

func (noEvents) Eventf(_, _ runtime.Object, _, _, _, _ string, _ ...any) {}

// queue calls a reconciler: once at a time for each key, again when something happened meanwhile, when it asked for it, and when it failed.
type queue struct {
	p         *Proc
	number    int
	retry     time.Duration
	reconcile func(context.Context, types.NamespacedName) (time.Duration, error)
	items     map[types.NamespacedName]*item
}

// item is a key of a queue. The world's mutex guards it.
type item struct {
	queue                  *queue
	key                    types.NamespacedName
	queued, running, dirty bool
	timer                  *time.Timer
}

func (p *Proc) newQueue(retry time.Duration, reconcile func(context.Context, types.NamespacedName) (time.Duration, error)) *queue {
	p.queues++
	return &queue{p: p, number: p.queues, retry: retry, reconcile: reconcile, items: map[types.NamespacedName]*item{}}
}

func (q *queue) addObject(obj client.Object) { q.add(client.ObjectKeyFromObject(obj)) }

func (q *queue) add(key types.NamespacedName) {
	w := q.p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	it := q.items[key]
	if it == nil {
		it = &item{queue: q, key: key}
		q.items[key] = it
	}
	switch {
	case q.p.gone(), it.queued:
	case it.running:
		it.dirty = true
	default:
		w.enqueue(it)
	}
}

// enqueue has the key looked at once everybody waits. The caller holds the mutex.
func (w *World) enqueue(it *item) {
	it.queued = true
	w.ready = append(w.ready, it)
	w.poke()
}

// work begins with the next key that something happened to; false when there is none. One begins at a time, so that each schedule is
// always the same.
func (w *World) work() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = slices.DeleteFunc(w.ready, func(it *item) bool { return it.queue.p.gone() })
	if len(w.ready) == 0 {
		return false
	}
	slices.SortFunc(w.ready, func(a, b *item) int {
		return cmp.Or(cmp.Compare(a.queue.p.Name, b.queue.p.Name), cmp.Compare(a.queue.number, b.queue.number), cmp.Compare(a.key.String(), b.key.String()))
	})
	it := w.ready[0]
	w.ready = w.ready[1:]
	it.queued, it.running = false, true
	go it.work()
	return true
}

func (it *item) work() {
	q, w := it.queue, it.queue.p.w
	after, err := q.reconcile(q.p.ctx, it.key)
	if err != nil {
		after = q.retry
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	it.running = false
	if it.timer != nil {
		it.timer.Stop()
	}
	switch {
	case q.p.gone():
	case it.dirty:
		it.dirty = false
		w.enqueue(it)
	case after > 0:
		it.timer = time.AfterFunc(after, func() { q.add(it.key) })
	}
}
