// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"slices"
	"sync"

	fwk "k8s.io/kube-scheduler/framework"

	"github.com/cryopod/cryopod/pkg/imageindex"
)

// sizedLayer is a layer of an image that has to be on a node.
type sizedLayer struct {
	id    imageindex.LayerID
	bytes int64
}

// place is a node's number. What is known by layer or image are lists of places, and what is known of a place is read by index: to look up a dozen
// layers in the maps of thousands of nodes takes far longer than to go along the lists of a dozen layers.
type place int32

// catalog knows the nodes that have a NodeProfile, and the layers of all images that some node has: also of one that a pod needs and that is on another node
// only. And it knows where each is.
type catalog struct {
	mu     sync.RWMutex
	images map[imageindex.ImageID]*cataloged
	// names lead to an image that has them: the one that was told of last, where nodes do not agree.
	names map[imageindex.NameID]*named
	// layers are the places that have them.
	layers map[imageindex.LayerID][]place

	// places are the nodes' numbers, profiles what is known of the nodes of those numbers.
	places   map[string]*placed
	profiles []profile
	free     []place
	// telling is how many of them tell of all their images.
	telling int
	// seated is roster's result while that holds, nil after.
	seated *roster
}

// profile is what is known of a node, and at hand, for predictions, what it has measured.
type profile struct {
	node     *node // nil where nothing is known
	measured float64
}

type cataloged struct {
	layers []sizedLayer
	at     []place
}

type named struct {
	image imageindex.ImageID
	at    []place
}

// placed is a node's number, with how many ask for it to stay.
type placed struct {
	place
	holds int
}

func newCatalog() *catalog {
	return &catalog{
		images: map[imageindex.ImageID]*cataloged{}, names: map[imageindex.NameID]*named{}, layers: map[imageindex.LayerID][]place{},
		places: map[string]*placed{},
	}
}

// hold gives the node of that name a number, which stays until release.
func (c *catalog) hold(name string) place {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.holdLocked(name)
}

func (c *catalog) holdLocked(name string) place {
	p := c.places[name]
	if p == nil {
		p = &placed{place: place(len(c.profiles))} //nolint:gosec // a cluster has no two billion nodes
		if n := len(c.free); n > 0 {
			p.place, c.free = c.free[n-1], c.free[:n-1]
		} else {
			c.profiles = append(c.profiles, profile{})
		}
		c.places[name] = p
	}
	p.holds++
	return p.place
}

// release takes a hold back.
func (c *catalog) release(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releaseLocked(name)
}

func (c *catalog) releaseLocked(name string) {
	p := c.places[name]
	if p.holds--; p.holds == 0 {
		c.free = append(c.free, p.place)
		delete(c.places, name)
	}
}

// replace takes the images of a node as it was out, and those of the node as it is in; either may be nil.
func (c *catalog) replace(before, after *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var at place
	was, is := &imageindex.Index{}, &imageindex.Index{}
	if before != nil {
		at, was = c.places[before.Name].place, before.Index
	} else {
		at = c.holdLocked(after.Name)
	}
	if after != nil {
		is = after.Index
	}
	if before.tells() {
		c.telling--
	}
	if before.tells() != after.tells() || !before.sameAbilities(after) {
		c.seated = nil
	}
	if c.profiles[at] = (profile{after, after.measured()}); after.tells() {
		c.telling++
	}
	c.add(at, was, is)
	c.remove(at, was, is)
	if after == nil {
		c.releaseLocked(before.Name)
	}
}

// add adds what is and was not.
func (c *catalog) add(at place, was, is *imageindex.Index) {
	for id, image := range is.Images {
		if _, known := was.Images[id]; known {
			continue
		}
		entry := c.images[id]
		if entry == nil {
			entry = &cataloged{}
			for _, l := range image.Layers {
				entry.layers = append(entry.layers, sizedLayer{l, is.Layers[l].Bytes()})
			}
			c.images[id] = entry
		}
		entry.at = append(entry.at, at)
	}
	for name, id := range is.Names {
		entry := c.names[name]
		if entry == nil {
			entry = &named{}
			c.names[name] = entry
		}
		former, known := was.Names[name]
		if !known {
			entry.at = append(entry.at, at)
		}
		if !known || former != id {
			entry.image = id
		}
	}
	for id := range is.Layers {
		if _, known := was.Layers[id]; !known {
			c.layers[id] = append(c.layers[id], at)
		}
	}
}

// remove removes what was and is no more.
func (c *catalog) remove(at place, was, is *imageindex.Index) {
	for id := range was.Images {
		if _, still := is.Images[id]; still {
			continue
		}
		if entry := c.images[id]; entry != nil {
			if entry.at = without(entry.at, at); len(entry.at) == 0 {
				delete(c.images, id)
			}
		}
	}
	for name := range was.Names {
		if _, still := is.Names[name]; still {
			continue
		}
		if entry := c.names[name]; entry != nil {
			if entry.at = without(entry.at, at); len(entry.at) == 0 {
				delete(c.names, name)
			}
		}
	}
	for id := range was.Layers {
		if _, still := is.Layers[id]; !still {
			strike(c.layers, id, at)
		}
	}
}

// strike takes a place out of the list of a key, and the key with the last one.
func strike[K comparable](all map[K][]place, key K, at place) {
	if left := without(all[key], at); len(left) > 0 {
		all[key] = left
	} else {
		delete(all, key)
	}
}

// without is the list less one place. Its order is not kept.
func without(list []place, at place) []place {
	i := slices.Index(list, at)
	if i < 0 {
		return list
	}
	list[i] = list[len(list)-1]
	return list[:len(list)-1]
}

// tellsAll reports whether so many nodes tell of all their images: then no node has one that the catalog does not know.
func (c *catalog) tellsAll(nodes int) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.telling >= nodes
}

// node returns nil for a node without a profile.
func (c *catalog) node(name string) *node {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p := c.places[name]
	if p == nil {
		return nil
	}
	return c.profiles[p.place].node
}

// roster is made of the nodes where there is none that still holds.
func (c *catalog) roster(nodes []fwk.NodeInfo) *roster {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rosterLocked(nodes)
}

func (c *catalog) rosterLocked(nodes []fwk.NodeInfo) *roster {
	if c.seated == nil || c.seated.outdated() {
		c.seated = c.newRoster(nodes)
	}
	return c.seated
}

// layersOf returns the layers of an image, by its digest or else by one of its names; false when no node is known to have it.
func (c *catalog) layersOf(i image) ([]sizedLayer, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if i.hasID {
		entry := c.images[i.id]
		if entry == nil {
			return nil, false
		}
		return entry.layers, true
	}
	for _, name := range i.nameIDs {
		if by := c.names[name]; by != nil && c.images[by.image] != nil {
			return c.images[by.image].layers, true
		}
	}
	return nil, false
}

// likeliest returns the layers of another image of the same repository, by which the agents name each image once more: an image and its successor have most of
// them in common. False when there is none.
func (c *catalog) likeliest(i image) ([]sizedLayer, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	by := c.names[i.repository]
	if by == nil || c.images[by.image] == nil {
		return nil, false
	}
	return c.images[by.image].layers, true
}
