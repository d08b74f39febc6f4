// SPDX-License-Identifier: Apache-2.0

package locality

import "sync"

// catalog knows every image that any NodeProfile has, so that the layers of an image can be looked for on nodes that lack it.
type catalog struct {
	mu     sync.RWMutex
	images map[string]*cataloged // by digest
}

type cataloged struct {
	storedImage
	nodes int
}

func newCatalog() *catalog {
	return &catalog{images: map[string]*cataloged{}}
}

// replace takes the images of a node's new profile in and those of its former one out; either may be nil.
func (c *catalog) replace(before, after *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if after != nil {
		for digest, image := range after.images {
			entry := c.images[digest]
			if entry == nil {
				entry = &cataloged{}
				c.images[digest] = entry
			}
			entry.storedImage = image
			entry.nodes++
		}
	}
	if before == nil {
		return
	}
	for digest := range before.images {
		if entry := c.images[digest]; entry != nil {
			entry.nodes--
			if entry.nodes == 0 {
				delete(c.images, digest)
			}
		}
	}
}

// find returns the image of that digest, and whether any node has it.
func (c *catalog) find(digest string) (storedImage, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	entry := c.images[digest]
	if entry == nil {
		return storedImage{}, false
	}
	return entry.storedImage, true
}
