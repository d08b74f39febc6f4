// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/imageindex"
)

const (
	// longestStart is how long a pod counts as starting: one whose image can't be pulled would for ever.
	longestStart = 10 * time.Minute

	// underWayTick is how often those are looked for.
	underWayTick = 30 * time.Second
)

// underWay knows what each node is pulling and restoring for pods that are reserved for it or bound to it and don't run yet.
type underWay struct {
	clock clock.WithTicker

	// places numbers the nodes. Its lock is taken before mu, never while mu is held.
	places *catalog

	mu    sync.RWMutex
	nodes map[string]*backlog
	pods  map[types.UID]*start
	// The same once more, for all nodes at once: the loads of each place, and the places at which a layer, or an image whose layers are not known, is
	// expected.
	loads  []load
	layers map[imageindex.LayerID][]place
	whole  map[string][]place
}

// backlog is what is under way on one node. It is read and written under underWay's lock.
type backlog struct {
	at     place
	layers map[imageindex.LayerID]*coming
	whole  map[string]*coming // images whose layers are not known, by name
	// load is all of it together.
	load
}

// coming is what several pods may be waiting for.
type coming struct {
	bytes int64
	pods  int
}

// start is a pod on its way to run on a node.
type start struct {
	node string
	job
	begun time.Time
	// predicted is when it should run, from begun on; 0 where nobody predicted it.
	predicted time.Duration
	restoring bool
	// over is set where it has taken too long: it does not count any more.
	over bool
}

// job is what a node has to do for one pod.
type job struct {
	layers  []sizedLayer
	whole   []wholeImage
	restore int64
}

// wholeImage is one whose layers are not known.
type wholeImage struct {
	name  string
	bytes int64
}

func newUnderWay(clk clock.WithTicker, places *catalog) *underWay {
	return &underWay{
		clock: clk, places: places, nodes: map[string]*backlog{}, pods: map[types.UID]*start{},
		layers: map[imageindex.LayerID][]place{}, whole: map[string][]place{},
	}
}

// at is what a place has to do already. It is called under the lock.
func (u *underWay) at(p place) load {
	if int(p) >= len(u.loads) {
		return load{}
	}
	return u.loads[p]
}

// note keeps the loads in step with a node's backlog.
func (u *underWay) note(b *backlog) {
	for int(b.at) >= len(u.loads) {
		u.loads = append(u.loads, load{})
	}
	u.loads[b.at] = b.load
}

// load is what the node has to do until the pod of that work runs there, with all that it does already. What both need is pulled once.
func (u *underWay) load(w *work, n *node, info fwk.NodeInfo) load {
	u.mu.RLock()
	defer u.mu.RUnlock()
	b := u.nodes[info.Node().Name]
	l := load{restore: w.restore, pods: 1}
	if b != nil {
		l.pull, l.restore, l.pods = b.pull, l.restore+b.restore, l.pods+b.pods
	}
	w.lacking(n, info.GetImageStates(), func(i *image, layer *sizedLayer) {
		switch {
		case layer == nil && (b == nil || b.whole[i.names[0]] == nil):
			l.own += i.bytes
		case layer != nil && (b == nil || b.layers[layer.id] == nil):
			l.own += layer.bytes
		}
	})
	l.pull += l.own
	return l
}

// add notes a pod on its way. One that is known is left as it is.
func (u *underWay) add(uid types.UID, s start) {
	if u.known(uid) {
		return
	}
	at := u.places.hold(s.node)
	if !u.addAt(uid, s, at) {
		u.places.release(s.node)
	}
}

// addAt adds a pod to a node whose place is held; each pod that counts has a hold of its own.
func (u *underWay) addAt(uid types.UID, s start, at place) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pods[uid] != nil {
		return false
	}
	s.begun = u.clock.Now()
	u.pods[uid] = &s
	b := u.nodes[s.node]
	if b == nil {
		b = &backlog{at: at, layers: map[imageindex.LayerID]*coming{}, whole: map[string]*coming{}}
		u.nodes[s.node] = b
	}
	for _, l := range s.layers {
		b.pull += expect(b.layers, u.layers, l.id, l.bytes, at)
	}
	for _, i := range s.whole {
		b.pull += expect(b.whole, u.whole, i.name, i.bytes, at)
	}
	b.restore += s.restore
	b.pods++
	u.note(b)
	return true
}

// known reports whether the pod is on its way.
func (u *underWay) known(uid types.UID) bool {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.pods[uid] != nil
}

// remove forgets a pod that runs, or never will, and returns what was known of it, and how long ago it was added. Nil: nothing was, or it has taken
// too long.
func (u *underWay) remove(uid types.UID) (*start, time.Duration) {
	s := u.forget(uid)
	if s == nil {
		return nil, 0
	}
	u.places.release(s.node)
	return s, u.clock.Since(s.begun)
}

// forget is remove but for the hold of the node's place.
func (u *underWay) forget(uid types.UID) *start {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.pods[uid]
	if s == nil {
		return nil
	}
	delete(u.pods, uid)
	if s.over {
		return nil
	}
	u.lift(s)
	return s
}

// lift takes what a pod needs off its node's backlog, once.
func (u *underWay) lift(s *start) {
	b := u.nodes[s.node]
	if s.over || b == nil {
		return
	}
	s.over = true
	for _, l := range s.layers {
		b.pull -= done(b.layers, u.layers, l.id, b.at)
	}
	for _, i := range s.whole {
		b.pull -= done(b.whole, u.whole, i.name, b.at)
	}
	b.restore -= s.restore
	b.pods--
	u.note(b)
	if b.pods == 0 {
		delete(u.nodes, s.node)
	}
}

// arrived takes note of what a node has by now: it is not pulled any more, although the pods that waited for it may not run yet.
func (u *underWay) arrived(node string, have *imageindex.Index) {
	u.mu.Lock()
	defer u.mu.Unlock()
	b := u.nodes[node]
	if b == nil {
		return
	}
	for id, c := range b.layers {
		if _, there := have.Layers[id]; there {
			b.pull -= c.bytes
			delete(b.layers, id)
			strike(u.layers, id, b.at)
		}
	}
	u.note(b)
}

// run gives pods up that take too long, until ctx is done.
func (u *underWay) run(ctx context.Context) {
	ticker := u.clock.NewTicker(underWayTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			u.expire()
		}
	}
}

func (u *underWay) expire() {
	for _, node := range u.late() {
		u.places.release(node)
	}
}

// late lifts what takes too long, and returns the nodes, one for each pod.
func (u *underWay) late() (nodes []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.pods {
		if !s.over && u.clock.Since(s.begun) > longestStart {
			u.lift(s)
			nodes = append(nodes, s.node)
		}
	}
	return nodes
}

// expect has one pod more wait for it, and returns how many bytes more that makes.
func expect[K comparable](all map[K]*coming, where map[K][]place, key K, bytes int64, at place) int64 {
	c := all[key]
	if c != nil {
		c.pods++
		return 0
	}
	all[key] = &coming{bytes: bytes, pods: 1}
	where[key] = append(where[key], at)
	return bytes
}

// done has one pod less wait for it, and returns how many bytes less that makes.
func done[K comparable](all map[K]*coming, where map[K][]place, key K, at place) int64 {
	c := all[key]
	if c == nil {
		return 0
	}
	c.pods--
	if c.pods > 0 {
		return 0
	}
	delete(all, key)
	strike(where, key, at)
	return c.bytes
}

// bytes is what has to be pulled for the job alone.
func (j job) bytes() (n int64) {
	for _, l := range j.layers {
		n += l.bytes
	}
	for _, i := range j.whole {
		n += i.bytes
	}
	return n
}
