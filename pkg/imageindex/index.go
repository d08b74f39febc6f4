// SPDX-License-Identifier: Apache-2.0

package imageindex

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
)

// Layer is one of an image's compressed layers.
type Layer struct {
	// Digest is sha256:… of the compressed layer.
	Digest string
	// Bytes is its size.
	Bytes int64
}

// Image is one in a node's store.
type Image struct {
	// Digest is what it is pulled by: sha256:… of its manifest or index.
	Digest string
	// Names are those that it has beside: repository:tag, with the registry's name.
	Names []string
	// Layers are its layers, lowest first.
	Layers []Layer
}

type (
	// LayerID stands for a layer's digest.
	LayerID uint32
	// ImageID stands for an image's digest.
	ImageID uint64
	// NameID stands for a name.
	NameID uint32
)

// The bytes of the digest that an ID has.
const (
	layerIDBytes = 3
	imageIDBytes = 5
	nameIDBytes  = 4
)

// LayerOf is the ID of a layer's digest; false for what is no sha256 digest.
func LayerOf(digest string) (LayerID, bool) {
	id, ok := prefix(digest, layerIDBytes)
	return LayerID(id), ok
}

// ImageOf is the ID of an image's digest; false for what is no sha256 digest.
func ImageOf(digest string) (ImageID, bool) {
	id, ok := prefix(digest, imageIDBytes)
	return ImageID(id), ok
}

// NameOf is the ID of a name.
func NameOf(name string) NameID {
	sum := sha256.Sum256([]byte(name))
	return NameID(binary.BigEndian.Uint32(sum[:nameIDBytes]))
}

// prefix is the first bytes of a digest as a number.
func prefix(digest string, bytes int) (uint64, bool) {
	text, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(text) != hex.EncodedLen(sha256.Size) {
		return 0, false
	}
	raw, err := hex.DecodeString(text[:2*bytes])
	if err != nil {
		return 0, false
	}
	var n uint64
	for _, b := range raw {
		n = n<<8 | uint64(b)
	}
	return n, true
}

// The sizes are kept as powers: the smallest that is told apart is smallest, each next one a tenth larger.
const (
	smallest = 1 << 10
	ratio    = 1.1
)

func packSize(bytes int64) byte {
	if bytes <= smallest {
		return 0
	}
	return byte(min(math.MaxUint8, math.Round(math.Log(float64(bytes)/smallest)/math.Log(ratio))))
}

// Size is a layer's size as it is kept. A node has hundreds: in bytes, as numbers, they would take half as much memory as all else of an Index.
type Size byte

// sizes are what they stand for.
var sizes = func() (all [math.MaxUint8 + 1]int64) {
	for b := range all {
		all[b] = int64(math.Round(smallest * math.Pow(ratio, float64(b))))
	}
	return all
}()

// Bytes is the size in bytes.
func (s Size) Bytes() int64 { return sizes[s] }

// Entry is an image of an Index.
type Entry struct {
	// Layers are its layers' IDs, lowest first.
	Layers []LayerID
	// Bytes is the size of all of them.
	Bytes int64
}

// Index is what a node has. It may be read from many goroutines at once.
type Index struct {
	// Images are those of the node, by the IDs of their digests.
	Images map[ImageID]Entry
	// Names lead to the images that have them.
	Names map[NameID]ImageID
	// Layers are those of all images, with their sizes.
	Layers map[LayerID]Size
}

// Missing is how many bytes of an image have to be pulled to where this index is from. The layers' sizes are told by where the image is known from.
func (x *Index) Missing(image []LayerID, sizes func(LayerID) int64) (bytes int64) {
	for _, l := range image {
		if _, have := x.Layers[l]; !have {
			bytes += sizes(l)
		}
	}
	return bytes
}

// String says how much is in it.
func (x *Index) String() string {
	return fmt.Sprintf("%d images of %d layers", len(x.Images), len(x.Layers))
}
