// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/cryopod/cryopod/pkg/archive"
)

// window is zstd's. What the workers hold in memory is a multiple of it, and a checkpoint repeats itself at short distance.
const window = 512 << 10

// archiveError is a failure to read the archive, as opposed to one to send it.
type archiveError struct{ err error }

func (e *archiveError) Error() string { return e.err.Error() }
func (e *archiveError) Unwrap() error { return e.err }

// layer is the image's only layer. Its content is made while it is read; what depends on the content is stream.ErrNotComputed until
// one of its streams was read to the end.
type layer struct {
	open     func() (io.ReadCloser, error)
	identity archive.Identity
	limits   archive.Limits
	workers  int

	mu      sync.Mutex
	streams []*layerStream
	done    *computed
	err     error
}

// computed is what is known of a layer that was read to the end.
type computed struct {
	digest, diffID v1.Hash
	size           int64
	metadata       *archive.Metadata
}

var _ v1.Layer = (*layer)(nil)

func newLayer(r Request, limits archive.Limits, workers int) *layer {
	return &layer{open: r.Archive, identity: r.identity(), limits: limits, workers: workers}
}

// Digest implements v1.Layer.
func (l *layer) Digest() (v1.Hash, error) {
	c, err := l.computed()
	return c.digest, err
}

// DiffID implements v1.Layer.
func (l *layer) DiffID() (v1.Hash, error) {
	c, err := l.computed()
	return c.diffID, err
}

// Size implements v1.Layer.
func (l *layer) Size() (int64, error) {
	c, err := l.computed()
	return c.size, err
}

// MediaType implements v1.Layer.
func (l *layer) MediaType() (types.MediaType, error) { return types.OCILayerZStd, nil }

// Uncompressed implements v1.Layer. Nobody who pushes needs it.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	return nil, errors.New("reading checkpoint layer: only its compressed form can be read")
}

// Compressed implements v1.Layer: it opens the archive anew and starts to compress it. The transport may ask for a second
// stream when it has to send a request again over another connection; the last one counts.
func (l *layer) Compressed() (io.ReadCloser, error) {
	l.stop()
	src, err := l.open()
	if err != nil {
		err = &archiveError{fmt.Errorf("opening archive: %w", err)}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.err = err
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done, l.err = nil, nil
	s := newStream(l, src)
	l.streams = append(l.streams, s)
	return s, nil
}

// stop ends all streams and waits for their goroutines. It may be called concurrently; each call waits.
func (l *layer) stop() {
	l.mu.Lock()
	streams := slices.Clone(l.streams)
	l.mu.Unlock()
	for _, s := range streams {
		_ = s.Close() // an error of a stream that nobody reads any more tells nothing
	}
}

// failure returns why the archive could not be read; nil if it could, or was not read to the end.
func (l *layer) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *layer) metadata() *archive.Metadata {
	c, _ := l.computed()
	return c.metadata
}

func (l *layer) computed() (computed, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		return computed{}, stream.ErrNotComputed
	}
	return *l.done, nil
}

// layerStream is one reading of the archive: a goroutine checks, hashes and compresses it into a pipe.
type layerStream struct {
	out  *io.PipeReader
	src  io.Closer
	once sync.Once
	err  error
	// closed is set before src is closed: what reading it says from then on is no failure of the archive.
	closed atomic.Bool
	over   chan struct{}
}

func newStream(l *layer, src io.ReadCloser) *layerStream {
	out, in := io.Pipe()
	s := &layerStream{out: out, src: src, over: make(chan struct{})}
	go func() {
		defer close(s.over)
		c, err := l.compress(in, src)
		l.mu.Lock()
		l.done = c
		if refused := (*archiveError)(nil); errors.As(err, &refused) && !s.closed.Load() {
			l.err = err
		}
		l.mu.Unlock()
		in.CloseWithError(err) // nil means EOF, which the reader gets only now that the hashes are there
	}()
	return s
}

// Read implements io.Reader.
func (s *layerStream) Read(p []byte) (int, error) { return s.out.Read(p) }

// Close ends the stream, closes the archive and waits for the goroutine.
func (s *layerStream) Close() error {
	s.once.Do(func() {
		s.closed.Store(true)
		s.out.CloseWithError(errClosed)
		s.err = s.src.Close()
		<-s.over
	})
	return s.err
}

var errClosed = errors.New("layer stream closed")

// compress writes the archive src to w as zstd and returns what it then knows of it. Errors of src and of the archive are
// archiveErrors; those of w are not.
func (l *layer) compress(w io.Writer, src io.Reader) (*computed, error) {
	compressed := &digester{w: w, hash: sha256.New()}
	encoder, err := zstd.NewWriter(compressed,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(window),
		zstd.WithEncoderConcurrency(l.workers),
		zstd.WithConcurrentBlocks(l.workers > 1),
		zstd.WithEncoderCRC(false), // the digest covers it
	)
	if err != nil {
		return nil, fmt.Errorf("making zstd encoder: %w", err)
	}
	plain := &digester{w: encoder, hash: sha256.New()}
	metadata, err := archive.Copy(plain, src, l.identity, l.limits)
	if closeErr := encoder.Close(); plain.err == nil {
		plain.err = closeErr
	}
	if plain.err != nil {
		return nil, plain.err
	}
	if err != nil {
		return nil, &archiveError{err}
	}
	return &computed{digest: compressed.sum(), diffID: plain.sum(), size: compressed.n, metadata: metadata}, nil
}

// digester passes on what it hashes and counts, and remembers the first error of doing so.
type digester struct {
	w    io.Writer
	hash hash.Hash
	n    int64
	err  error
}

func (d *digester) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.hash.Write(p[:n])
	d.n += int64(n)
	if err != nil && d.err == nil {
		d.err = err
	}
	return n, err
}

func (d *digester) sum() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(d.hash.Sum(nil))}
}
