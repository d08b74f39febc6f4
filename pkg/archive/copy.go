// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"

	criu "github.com/checkpoint-restore/checkpointctl/lib"
)

const copyBuffer = 1 << 20

// Copy reads the archive r to its end, checking it as NewReader does, and writes what it lets through to w as a tar archive of
// its own making: root as owner, permission bits, no extended headers but for sizes that need them. Nothing of r that was not
// checked gets into w. It returns what the archive's metadata files tell. An archive that is not a container's checkpoint
// is ErrIncomplete. After an error, what w got is to be thrown away.
func Copy(w io.Writer, r io.Reader, l Limits) (*Metadata, error) {
	tw := tar.NewWriter(w)
	m, err := walk(NewReader(r, l), func(e Entry, content io.Reader, buf []byte) error {
		if err := tw.WriteHeader(header(e)); err != nil {
			return fmt.Errorf("writing archive entry %q: %w", e.Name, err)
		}
		if _, err := io.CopyBuffer(onlyWriter{tw}, onlyReader{content}, buf); err != nil {
			return fmt.Errorf("copying archive entry %q: %w", e.Name, err)
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

// ReadMetadata reads the archive r to its end, checking it as NewReader does, and returns what its metadata files tell.
func ReadMetadata(r io.Reader, l Limits) (*Metadata, error) {
	return walk(NewReader(r, l), func(e Entry, content io.Reader, buf []byte) error {
		if _, err := io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{content}, buf); err != nil {
			return fmt.Errorf("reading archive entry %q: %w", e.Name, err)
		}
		return nil
	})
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

// walk calls each for every entry and gathers the metadata files on the way. each reads content to its end.
func walk(r *Reader, each func(e Entry, content io.Reader, buf []byte) error) (*Metadata, error) {
	m := &Metadata{}
	buf := make([]byte, copyBuffer)
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		m.Entries++
		m.Bytes += e.Size
		if !e.Dir && isBelow(e.Name, criu.CheckpointDirectory) {
			m.checkpointFiles++
		}
		part, wanted := parts[e.Name]
		if !wanted || e.Dir {
			if err := each(e, r, buf); err != nil {
				return nil, err
			}
			continue
		}
		if e.Size > part.maxBytes {
			return nil, fmt.Errorf("reading archive entry %q of %d bytes: %w", e.Name, e.Size, ErrTooLarge)
		}
		var content bytes.Buffer
		if err := each(e, io.TeeReader(r, &content), buf); err != nil {
			return nil, err
		}
		if err := part.parse(m, content.Bytes()); err != nil {
			return nil, fmt.Errorf("reading archive entry %q: %w: %w", e.Name, ErrMalformed, err)
		}
	}
	if err := m.complete(); err != nil {
		return nil, err
	}
	return m, nil
}
