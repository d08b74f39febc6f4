// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// layer is a finished gzip layer, of which everything is known. It implements v1.Layer.
type layer struct {
	digest v1.Hash
	diffID v1.Hash
	size   int64
	open   func() (io.ReadCloser, error)
}

var _ v1.Layer = (*layer)(nil)

func (l *layer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.diffID, nil }
func (l *layer) Size() (int64, error)                 { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return types.OCILayer, nil }
func (l *layer) Compressed() (io.ReadCloser, error)   { return l.open() }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return uncompressed(l.open) }

// uncompressed opens what open gives and reads through its gzip.
func uncompressed(open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	compressed, err := open()
	if err != nil {
		return nil, err
	}
	reader, err := gzip.NewReader(compressed)
	if err != nil {
		_ = compressed.Close()
		return nil, fmt.Errorf("reading layer: %w", err)
	}
	return struct {
		io.Reader
		io.Closer
	}{reader, compressed}, nil
}

// pack compresses the archive that fill writes to out and hashes both in the same pass. The layer's open is not set.
func pack(out io.Writer, fill func(*tar.Writer) error) (*layer, error) {
	compressed := &counter{hash: sha256.New(), next: out}
	// Speed matters more than size here: the layers never leave the machine.
	zipper, err := gzip.NewWriterLevel(compressed, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("compressing layer: %w", err)
	}
	plain := sha256.New()
	archive := tar.NewWriter(io.MultiWriter(plain, zipper))
	if err := fill(archive); err != nil {
		return nil, err
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("ending layer: %w", err)
	}
	if err := zipper.Close(); err != nil {
		return nil, fmt.Errorf("ending layer: %w", err)
	}
	return &layer{digest: digestOf(compressed.hash), diffID: digestOf(plain), size: compressed.size}, nil
}

func digestOf(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// counter hashes and counts what is written to next.
type counter struct {
	hash hash.Hash
	size int64
	next io.Writer
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.next.Write(p)
	c.hash.Write(p[:n])
	c.size += int64(n)
	return n, err
}

// packTree writes the files below root as a layer into the blobs folder of a layout, named by its digest. lower is as in
// writeTree.
func packTree(root, lower, blobs string) (*layer, error) {
	file, err := os.CreateTemp(blobs, "layer-*")
	if err != nil {
		return nil, fmt.Errorf("making layer: %w", err)
	}
	defer file.Close()
	made, err := pack(file, func(archive *tar.Writer) error { return writeTree(archive, root, lower) })
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("writing layer: %w", err)
	}
	path := filepath.Join(blobs, made.digest.Hex)
	if err := os.Rename(file.Name(), path); err != nil {
		return nil, fmt.Errorf("naming layer: %w", err)
	}
	made.open = func() (io.ReadCloser, error) { return os.Open(path) }
	return made, nil
}

// packMemory makes a layer that is kept in memory.
func packMemory(fill func(*tar.Writer) error) (*layer, error) {
	var content bytes.Buffer
	made, err := pack(&content, fill)
	if err != nil {
		return nil, err
	}
	made.open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }
	return made, nil
}
