// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"sync"

	"github.com/cryopod/cryopod/pkg/imageindex"
)

// sizedLayer is a layer of an image that has to be on a node.
type sizedLayer struct {
	id    imageindex.LayerID
	bytes int64
}

// catalog knows the layers of all images that some node has: also of one that a pod needs and that is on another node only.
type catalog struct {
	mu     sync.RWMutex
	images map[imageindex.ImageID]*cataloged
	// names lead to an image that has them: the one that was told of last, where nodes do not agree.
	names map[imageindex.NameID]*named
}

type cataloged struct {
	layers []sizedLayer
	nodes  int
}

type named struct {
	image imageindex.ImageID
	nodes int
}

func newCatalog() *catalog {
	return &catalog{images: map[imageindex.ImageID]*cataloged{}, names: map[imageindex.NameID]*named{}}
}

// replace takes the images of a node as it was out, and those of the node as it is in; either may be nil.
func (c *catalog) replace(before, after *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if after != nil {
		c.add(after)
	}
	if before != nil {
		c.remove(before)
	}
}

func (c *catalog) add(n *node) {
	for id, image := range n.Images {
		entry := c.images[id]
		if entry == nil {
			entry = &cataloged{}
			for _, l := range image.Layers {
				entry.layers = append(entry.layers, sizedLayer{l, n.Layers[l]})
			}
			c.images[id] = entry
		}
		entry.nodes++
	}
	for name, id := range n.Names {
		entry := c.names[name]
		if entry == nil {
			entry = &named{}
			c.names[name] = entry
		}
		entry.image = id
		entry.nodes++
	}
}

func (c *catalog) remove(n *node) {
	for id := range n.Images {
		if entry := c.images[id]; entry != nil {
			if entry.nodes--; entry.nodes == 0 {
				delete(c.images, id)
			}
		}
	}
	for name := range n.Names {
		if entry := c.names[name]; entry != nil {
			if entry.nodes--; entry.nodes == 0 {
				delete(c.names, name)
			}
		}
	}
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
