// SPDX-License-Identifier: Apache-2.0

package world

import (
	"maps"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// cache is what a process has seen of the API server's objects. It follows at once, unless it lags behind.
type cache struct {
	now     snapshot
	behind  []change
	lagging time.Time // until then
	tell    func(change)
}

func (w *World) newCache() *cache {
	c := &cache{now: w.objects, tell: func(change) {}}
	w.caches = append(w.caches, c)
	return c
}

func (w *World) drop(c *cache) {
	w.caches = slices.DeleteFunc(w.caches, func(other *cache) bool { return other == c })
}

// publish brings a change to all caches that don't lag.
func (w *World) publish(ch change) {
	for _, c := range slices.Clone(w.caches) {
		c.behind = append(c.behind, ch)
		c.catchUp()
	}
}

func (c *cache) catchUp() {
	if time.Now().Before(c.lagging) {
		return
	}
	for len(c.behind) > 0 {
		ch := c.behind[0]
		c.behind = c.behind[1:]
		c.now = maps.Clone(c.now)
		if ch.after == nil {
			delete(c.now, ch.ref)
		} else {
			c.now[ch.ref] = ch.after
		}
		c.tell(ch)
	}
}

// lag holds the cache back for a time.
func (w *World) lag(p *Proc, span time.Duration) {
	p.cache.lagging = time.Now().Add(span)
	w.at(p.cache.lagging, p.cache.catchUp)
}

// object is what a change is about: as it is, or was last.
func (ch change) object() client.Object {
	if ch.after != nil {
		return ch.after
	}
	return ch.before
}
