// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"sync"
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
	queues []*queue
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
	retry     time.Duration
	reconcile func(context.Context, types.NamespacedName) (time.Duration, error)

	mu    sync.Mutex
	items map[types.NamespacedName]*item
}

type item struct {
	running, dirty bool
	timer          *time.Timer
}

func (p *Proc) newQueue(retry time.Duration, reconcile func(context.Context, types.NamespacedName) (time.Duration, error)) *queue {
	q := &queue{p: p, retry: retry, reconcile: reconcile, items: map[types.NamespacedName]*item{}}
	p.queues = append(p.queues, q)
	return q
}

func (q *queue) addObject(obj client.Object) { q.add(client.ObjectKeyFromObject(obj)) }

func (q *queue) add(key types.NamespacedName) {
	if q.p.gone() {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[key]
	if it == nil {
		it = &item{}
		q.items[key] = it
	}
	if it.running {
		it.dirty = true
		return
	}
	it.running = true
	go q.work(key, it)
}

func (q *queue) work(key types.NamespacedName, it *item) {
	for {
		after, err := q.reconcile(q.p.ctx, key)
		if err != nil {
			after = q.retry
		}
		if q.rest(key, it, after) {
			return
		}
	}
}

// rest ends the work on a key unless something happened meanwhile.
func (q *queue) rest(key types.NamespacedName, it *item, after time.Duration) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it.dirty && !q.p.gone() {
		it.dirty = false
		return false
	}
	it.running = false
	if it.timer != nil {
		it.timer.Stop()
	}
	if after > 0 && !q.p.gone() {
		it.timer = time.AfterFunc(after, func() { q.add(key) })
	}
	return true
}
