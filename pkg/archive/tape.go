// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// headerBytes bounds what one entry's headers may take, extended ones included: the tar reader goes through chains of them without ever
	// coming back. extendedBytes bounds what all entries' headers take beyond a block each.
	headerBytes   = 64 << 10
	extendedBytes = 8 << 20

	blockSize = 512

	// trailer bounds the zeros that may follow an archive's end mark: tar pads to the size of a tape's record.
	trailer = 64 << 10
)

// tape reads the headers of a tar archive in order, within bounds.
type tape struct {
	raw     *meter
	tar     *tar.Reader
	limit   int64
	entries int
	most    int
	// extended is how many bytes of extended headers are still allowed.
	extended int64
}

func newTape(r io.Reader, bytes int64, entries int, extended int64) *tape {
	raw := &meter{r: bufio.NewReaderSize(r, 256<<10), left: bytes}
	return &tape{raw: raw, tar: tar.NewReader(raw), limit: bytes, most: entries, extended: extended}
}

// next goes to the next entry, over what is left of the last one's content; io.EOF after the end mark.
func (t *tape) next() (*tar.Header, error) {
	if err := t.skip(); err != nil {
		return nil, err
	}
	before := t.raw.left
	t.raw.stop = max(before-min(headerBytes, t.extended+3*blockSize), 0) // the padding before it, or the second block of the end mark
	h, err := t.tar.Next()
	t.raw.stop = 0
	t.extended -= max(before-t.raw.left-2*blockSize, 0)
	if err == nil {
		if t.entries++; t.entries > t.most {
			return nil, ErrTooMany
		}
		return h, nil
	}
	if err == io.EOF && !t.raw.ended {
		return nil, t.end()
	}
	return nil, t.failure(err)
}

// skip reads what is left of the content, so that the bound of a header counts nothing but headers.
func (t *tape) skip() error {
	if t.entries == 0 {
		return nil
	}
	if _, err := io.Copy(io.Discard, onlyReader{t.tar}); err != nil {
		return t.failure(err)
	}
	return nil
}

// end makes sure that nothing but padding follows the end mark.
func (t *tape) end() error {
	var b [4096]byte
	for n := 0; n <= trailer; {
		m, err := t.raw.Read(b[:])
		for _, c := range b[:m] {
			if c != 0 {
				return fmt.Errorf("reading archive: %w: something follows its end", ErrMalformed)
			}
		}
		switch n += m; {
		case err == io.EOF:
			return io.EOF
		case err != nil:
			return t.failure(err)
		}
	}
	return fmt.Errorf("reading archive: %w: too much follows its end", ErrMalformed)
}

// failure explains an error of the tar reader or of what lies below it.
func (t *tape) failure(err error) error {
	switch {
	case t.raw.stopped:
		return fmt.Errorf("reading archive entry number %d: its headers have %w", t.entries+1, ErrTooLarge)
	case errors.Is(err, ErrTooLarge):
		return fmt.Errorf("reading archive of more than %d bytes: %w", t.limit, ErrTooLarge)
	case t.raw.err != nil:
		return fmt.Errorf("reading archive: %w", t.raw.err)
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return fmt.Errorf("reading archive: %w: it ends early", ErrMalformed)
	default:
		return fmt.Errorf("reading archive: %w: %w", ErrMalformed, err)
	}
}

// isSparse tells whether the entry is a sparse file, in any of the forms that there are.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// meter counts what is read from r down from left, gives no more once left has come to stop, and keeps apart how r ended from what the tar
// reader makes of it.
type meter struct {
	r          io.Reader
	left, stop int64
	ended      bool
	// stopped is set when more was wanted than down to stop, where there would have been more.
	stopped bool
	err     error
}

func (m *meter) Read(p []byte) (int, error) {
	if m.left <= m.stop {
		m.stopped = m.left > 0
		return 0, ErrTooLarge
	}
	if int64(len(p)) > m.left-m.stop {
		p = p[:m.left-m.stop]
	}
	n, err := m.r.Read(p)
	m.left -= int64(n)
	switch {
	case err == io.EOF:
		m.ended = n == 0
	case err != nil:
		m.err = err
	}
	return n, err
}
