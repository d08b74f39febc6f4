// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"archive/tar"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
)

const (
	// freeChanges is what the changed files of a container may unpack to in any case. Beyond it, they may be ratio times as large as they are
	// packed: a file full of holes takes no disk where it was made, and all of it where it is restored.
	freeChanges = 256 << 20
	ratio       = 100

	// changedEntries is how many times as many changed files there may be as an archive has entries, and how much longer their names in all.
	changedEntries = 3
)

// checkChanges reads rootfs-diff.tar, the container's changed files as one packed layer of an image, of that many bytes packed. The runtime
// unpacks it as root, without a bound. There may be links and whiteouts in it, as in every layer, but neither devices nor sparse
// files nor names that climb, and it may not unpack to much more than it is. It reads r to its end, unless it fails.
func checkChanges(r io.Reader, packed int64, l Limits) error {
	if packed == 0 {
		return nil // nothing has changed
	}
	plain, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("unpacking: %w: no gzip", ErrMalformed)
	}
	defer func() { _ = plain.Close() }()
	t := newTape(unpacking{plain}, min(l.Bytes, freeChanges+packed*ratio), l.Entries*changedEntries, changedEntries*extendedBytes)
	for {
		h, err := t.next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = checkChange(h, t.raw.left)
		}
		if err != nil {
			return fmt.Errorf("entry number %d: %w", t.entries, err)
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("reading on: %w", err)
	}
	return nil
}

// unpacking tells what is wrong with what is packed from what is wrong with the tar archive in it.
type unpacking struct{ r io.Reader }

// Read implements io.Reader.
func (u unpacking) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: no whole gzip", ErrMalformed)
	}
	return n, err
}

func checkChange(h *tar.Header, left int64) error {
	if isSparse(h) {
		return ErrSparse
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeFifo:
	case tar.TypeLink:
		if !staysInside(h.Linkname) {
			return ErrName
		}
	default:
		return ErrType
	}
	switch {
	case h.Size > left:
		return ErrTooLarge
	case !staysInside(h.Name):
		return ErrName
	}
	return nil
}

// staysInside tells whether the name is one below the directory that it is unpacked in. A leading slash means that directory.
func staysInside(name string) bool {
	if name == "" || strings.ContainsRune(name, 0) || len(name) > maxPath {
		return false
	}
	clean := path.Clean(strings.TrimLeft(name, "/"))
	return clean != ".." && !strings.HasPrefix(clean, "../")
}

// maxPath is the longest path that Linux takes, in bytes.
const maxPath = 4096
