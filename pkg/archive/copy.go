// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"

	criu "github.com/checkpoint-restore/checkpointctl/lib"
)

const copyBuffer = 1 << 20

// Copy reads the archive r to its end, checking it as NewReader does, and writes what a runtime needs of it to w as a tar archive of its own
// making: root as owner, permission bits, no extended headers but for sizes that need them. The metadata files say what id says, and
// nothing else; files that no runtime of containerd's reads are left out. It returns what the archive tells about itself. One that is
// not a container's checkpoint is ErrIncomplete, one of another container ErrForeign. After an error, what w got is to be thrown away.
func Copy(w io.Writer, r io.Reader, id Identity, l Limits) (*Metadata, error) {
	tw := tar.NewWriter(w)
	m, err := walk(NewReader(r, l), id, func(e Entry, content io.Reader, buf []byte) error {
		if err := tw.WriteHeader(header(e)); err != nil {
			return fmt.Errorf("writing archive: %w", err)
		}
		if _, err := io.CopyBuffer(onlyWriter{tw}, onlyReader{content}, buf); err != nil {
			return fmt.Errorf("copying archive: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("ending archive: %w", err)
	}
	return m, nil
}

// onlyWriter and onlyReader hide the shortcuts of what they hold, which would go around the large buffer.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

func header(e Entry) *tar.Header {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: e.Name, Size: e.Size, Mode: int64(e.Mode), ModTime: e.ModTime}
	if e.Dir {
		h.Typeflag, h.Name = tar.TypeDir, e.Name+"/"
	}
	return h
}

// walker goes through an archive.
type walker struct {
	in  *Reader
	id  Identity
	m   *Metadata
	buf []byte
	// each takes an entry as it goes into the copy, and reads its content to the end.
	each func(e Entry, content io.Reader, buf []byte) error
}

// walk calls each for every entry that is kept and gathers the metadata on the way.
func walk(r *Reader, id Identity, each func(e Entry, content io.Reader, buf []byte) error) (*Metadata, error) {
	w := &walker{in: r, id: id, m: &Metadata{}, buf: make([]byte, copyBuffer), each: each}
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if !isKept(e) {
			continue
		}
		if err := w.entry(e); err != nil {
			return nil, err
		}
	}
	if err := w.m.complete(id); err != nil {
		return nil, err
	}
	return w.m, nil
}

func (w *walker) entry(e Entry) error {
	w.m.Entries++
	w.m.Bytes += e.Size
	if !e.Dir && isBelow(e.Name, criu.CheckpointDirectory) {
		w.m.checkpointFiles++
	}
	if part, ok := parts[e.Name]; ok {
		return w.part(e, part)
	}
	if e.Name == criu.RootFsDiffTar {
		return w.changes(e)
	}
	return w.each(e, w.in, w.buf)
}

// part reads a metadata file, and hands on what is to stand for it.
func (w *walker) part(e Entry, p part) error {
	if e.Size > p.maxBytes {
		return w.in.refuse(e.Name, ErrTooLarge)
	}
	content := make([]byte, e.Size)
	if _, err := io.ReadFull(w.in, content); err != nil {
		return err
	}
	if err := p.parse(w.m, content); err != nil {
		return w.in.refuse(e.Name, fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	if p.rewrite != nil {
		var err error
		if content, err = p.rewrite(w.id); err != nil {
			return err
		}
		e.Size = int64(len(content))
	}
	return w.each(e, bytes.NewReader(content), w.buf)
}

// changes hands on the container's changed files while they are looked into.
func (w *walker) changes(e Entry) error {
	out, in := io.Pipe()
	checked := make(chan error, 1)
	go func() {
		err := checkChanges(out, e.Size, w.in.limits)
		// Whoever still writes must not wait for a reader that has gone.
		out.CloseWithError(errChecked)
		checked <- err
	}()
	err := w.each(e, io.TeeReader(w.in, in), w.buf)
	in.CloseWithError(err)
	if wrong := <-checked; wrong != nil && (err == nil || errors.Is(err, errChecked)) {
		return w.in.refuse(e.Name, wrong)
	}
	return err
}

// errChecked ends the pipe to a check that is over.
var errChecked = errors.New("checked")
