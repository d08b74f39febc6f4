// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
)

const (
	chunkBytes = 64 << 10
	// verifyChunks are checked at each step.
	verifyChunks = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Ballast is memory with a checksum for each of its chunks. Half of it is random and half is text, so that it compresses about as a
// heap does. It is not safe for concurrent use.
type Ballast struct {
	data    []byte
	sums    []uint32
	touched int
	checked int
}

// NewBallast fills so many MiB. Zero is no ballast.
func NewBallast(mebibytes int) *Ballast {
	b := &Ballast{data: make([]byte, mebibytes<<20)}
	b.sums = make([]uint32, len(b.data)/chunkBytes)
	source := rand.NewChaCha8([32]byte{})
	// Made once: garbage would be saved and moved along with what is measured.
	text := bytes.Repeat([]byte("text of a heap, often the same; "), chunkBytes/2/32)
	for i := range b.sums {
		chunk := b.chunk(i)
		// A ChaCha8 never fails to read.
		_, _ = source.Read(chunk[:chunkBytes/2])
		copy(chunk[chunkBytes/2:], text)
		b.sums[i] = crc32.Checksum(chunk, castagnoli)
	}
	return b
}

func (b *Ballast) chunk(i int) []byte {
	return b.data[i*chunkBytes : (i+1)*chunkBytes]
}

// Bytes is its size.
func (b *Ballast) Bytes() int64 {
	return int64(len(b.data))
}

// Touch writes step into the next chunk.
func (b *Ballast) Touch(step int64) {
	if len(b.sums) == 0 {
		return
	}
	chunk := b.chunk(b.touched)
	binary.LittleEndian.PutUint64(chunk, uint64(step))
	b.sums[b.touched] = crc32.Checksum(chunk, castagnoli)
	b.touched = (b.touched + 1) % len(b.sums)
}

// Verify checks the next few chunks, goes round, and returns how many bytes it checked.
func (b *Ballast) Verify() (int64, error) {
	n := min(verifyChunks, len(b.sums))
	for range n {
		i := b.checked
		if got := crc32.Checksum(b.chunk(i), castagnoli); got != b.sums[i] {
			return 0, fmt.Errorf("checking chunk %d of the ballast: checksum %08x, want %08x", i, got, b.sums[i])
		}
		b.checked = (b.checked + 1) % len(b.sums)
	}
	return int64(n) * chunkBytes, nil
}
