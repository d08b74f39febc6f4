// SPDX-License-Identifier: Apache-2.0

package imageindex

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// version is the first byte of what is packed. A reader that knows another one takes the node's images for unknown.
const version = 1

// maxReferences bounds the layers of all images together, one that several have counted each time: as many as 1,000 images of 127 layers have. What is
// unpacked could else be far larger than what is packed.
const maxReferences = 127_000

// ErrMalformed is what Unpack gives for bytes that Pack did not make.
var ErrMalformed = errors.New("malformed image index")

// Pack packs the images, in any order: the same images give the same bytes. Images and layers whose digests are none are left out, and so are images
// beyond what Unpack takes.
//
// All numbers but IDs are uvarints. The version; how many layers, and for each its ID (3 bytes) and its size (1 byte); how many images, and for each
// its ID (5 bytes), how many names and their IDs (4 bytes each), how many runs of layers, and for each run the place of its first layer among all
// layers and how many follow each other from there.
func Pack(images []Image) []byte {
	images = slices.Clone(images)
	slices.SortFunc(images, func(a, b Image) int { return cmp.Compare(a.Digest, b.Digest) })
	images = slices.CompactFunc(images, func(a, b Image) bool { return a.Digest == b.Digest })
	var layers, rest []byte
	places := map[LayerID]int{}
	count, references := 0, 0
	for _, i := range images {
		id, ok := ImageOf(i.Digest)
		if !ok || references+len(i.Layers) > maxReferences {
			continue
		}
		count++
		references += len(i.Layers)
		rest = append(rest, bigEndian(uint64(id), imageIDBytes)...)
		rest = binary.AppendUvarint(rest, uint64(len(i.Names)))
		for _, name := range slices.Sorted(slices.Values(i.Names)) {
			rest = append(rest, bigEndian(uint64(NameOf(name)), nameIDBytes)...)
		}
		var all []int
		for _, l := range i.Layers {
			id, ok := LayerOf(l.Digest)
			if !ok {
				continue
			}
			place, known := places[id]
			if !known {
				place = len(places)
				places[id] = place
				layers = append(append(layers, bigEndian(uint64(id), layerIDBytes)...), packSize(l.Bytes))
			}
			if !slices.Contains(all, place) {
				all = append(all, place)
			}
		}
		rest = appendRuns(rest, all)
	}
	out := binary.AppendUvarint([]byte{version}, uint64(len(places)))
	out = append(out, layers...)
	return append(binary.AppendUvarint(out, uint64(count)), rest...)
}

// appendRuns writes places that follow each other as one run.
func appendRuns(out []byte, places []int) []byte {
	var runs [][2]int
	for _, p := range places {
		if n := len(runs); n > 0 && runs[n-1][0]+runs[n-1][1] == p {
			runs[n-1][1]++
			continue
		}
		runs = append(runs, [2]int{p, 1})
	}
	out = binary.AppendUvarint(out, uint64(len(runs)))
	for _, r := range runs {
		out = binary.AppendUvarint(binary.AppendUvarint(out, uint64(r[0])), uint64(r[1]))
	}
	return out
}

func bigEndian(n uint64, bytes int) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return b[8-bytes:]
}

// Unpack reads what Pack made. Anything else is ErrMalformed; it takes memory within bounds.
func Unpack(packed []byte) (*Index, error) {
	r := &reader{left: packed}
	if v := r.take(1); v == nil || v[0] != version {
		return nil, fmt.Errorf("%w: not of version %d", ErrMalformed, version)
	}
	x := &Index{Images: map[ImageID]Entry{}, Names: map[NameID]ImageID{}, Layers: map[LayerID]Size{}}
	var layers []LayerID
	for range r.count(layerIDBytes + 1) {
		id := LayerID(r.number(layerIDBytes))
		size := r.number(1)
		layers = append(layers, id)
		x.Layers[id] = Size(size)
	}
	references := uint64(0)
	for range r.count(imageIDBytes + 2) {
		id := ImageID(r.number(imageIDBytes))
		for range r.count(nameIDBytes) {
			x.Names[NameID(r.number(nameIDBytes))] = id
		}
		var e Entry
		for range r.count(2) {
			first, n := r.uvarint(), r.uvarint()
			if r.broken || first > uint64(len(layers)) || n > uint64(len(layers))-first || references+n > maxReferences {
				return nil, fmt.Errorf("%w: an image has layers that are not there, or too many", ErrMalformed)
			}
			references += n
			for _, l := range layers[first : first+n] {
				e.Layers = append(e.Layers, l)
				e.Bytes += x.Layers[l].Bytes()
			}
		}
		x.Images[id] = e
	}
	if r.broken || len(r.left) > 0 {
		return nil, fmt.Errorf("%w: it ends too early or too late", ErrMalformed)
	}
	return x, nil
}

// reader reads numbers until there are none left, which breaks it.
type reader struct {
	left   []byte
	broken bool
}

func (r *reader) take(n int) []byte {
	if r.broken || len(r.left) < n {
		r.broken = true
		return nil
	}
	taken := r.left[:n]
	r.left = r.left[n:]
	return taken
}

func (r *reader) number(bytes int) (n uint64) {
	for _, b := range r.take(bytes) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.left)
	if r.broken || size <= 0 {
		r.broken = true
		return 0
	}
	r.left = r.left[size:]
	return n
}

// count is how many things of that size at least come, none where there is no room for them.
func (r *reader) count(size int) uint64 {
	n := r.uvarint()
	if n > uint64(len(r.left)/size) {
		r.broken = true
		return 0
	}
	return n
}
