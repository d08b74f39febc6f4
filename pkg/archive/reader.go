// SPDX-License-Identifier: Apache-2.0

// Package archive reads the checkpoint archives that the kubelet leaves on a node. What is in them was partly written by the
// checkpointed process, so they are hostile input: one streaming reader lets through nothing but regular files and
// directories with plain relative names, within bounds, and everything else in Cryopod reads archives through it.
package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

// Why an archive is refused. Each comes wrapped with the place of the entry at fault.
var (
	// ErrType means that an entry is neither a regular file nor a directory.
	ErrType = errors.New("not a regular file or directory")
	// ErrName means that an entry's name is absolute, climbs, is empty, is a layer's whiteout or holds other characters than printable ASCII.
	ErrName = errors.New("unsafe name")
	// ErrSparse means that an entry is a sparse file, which may be much larger than the archive.
	ErrSparse = errors.New("sparse file")
	// ErrConflict means that two entries have one name, whatever their case, or that one is below another that is a file.
	ErrConflict = errors.New("conflicts with an earlier entry")
	// ErrTooLarge means that the archive, or a metadata file in it, has more bytes than allowed.
	ErrTooLarge = errors.New("too many bytes")
	// ErrTooMany means that the archive has more entries than allowed.
	ErrTooMany = errors.New("too many entries")
	// ErrTooDeep means that an entry is in more nested directories than allowed.
	ErrTooDeep = errors.New("nested too deeply")
	// ErrTooLong means that an entry's name has more bytes than allowed.
	ErrTooLong = errors.New("name too long")
	// ErrMalformed means that the archive or a metadata file in it can't be parsed, or ends early.
	ErrMalformed = errors.New("malformed")
	// ErrIncomplete means that the archive ended properly but is not a container's checkpoint.
	ErrIncomplete = errors.New("not a container checkpoint")
	// ErrForeign means that the archive is of another container than it should be.
	ErrForeign = errors.New("of another container")
)

// Limits bound what a Reader accepts. In each, zero means the field of DefaultLimits.
type Limits struct {
	// Bytes is the size of the whole archive, and of what its rootfs-diff.tar unpacks to.
	Bytes int64
	// Entries is the number of files and directories; the changed files of the container count apart, three times as many.
	Entries int
	// Depth is the number of elements of a name.
	Depth int
	// NameBytes is the length of a name.
	NameBytes int
}

// DefaultLimits leave room for any checkpoint seen so far: CRIU writes some ten files and three for each process.
var DefaultLimits = Limits{Bytes: 256 << 30, Entries: 50_000, Depth: 16, NameBytes: 512}

func (l Limits) withDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = DefaultLimits.Bytes
	}
	if l.Entries == 0 {
		l.Entries = DefaultLimits.Entries
	}
	if l.Depth == 0 {
		l.Depth = DefaultLimits.Depth
	}
	if l.NameBytes == 0 {
		l.NameBytes = DefaultLimits.NameBytes
	}
	return l
}

// Entry is a regular file or a directory in an archive.
type Entry struct {
	// Name is relative, clean, slash-separated, and never ".".
	Name string
	// Dir is true for a directory.
	Dir bool
	// Size is the file's size; 0 for a directory.
	Size int64
	// Mode holds the permission bits only.
	Mode fs.FileMode
	// ModTime is the time of the last change.
	ModTime time.Time
}

// Reader reads the entries of an archive in order, and stops for good at the first that it refuses. It holds a small buffer and a
// few bytes for each entry in memory, whatever the archive's size. A Reader is not safe for concurrent use.
type Reader struct {
	tape   *tape
	limits Limits
	seed   maphash.Seed
	seen   map[uint64]kind
	err    error
}

type kind uint8

const (
	// implied is a directory that so far only stands in other entries' names.
	implied kind = iota + 1
	directory
	file
)

// NewReader returns a Reader of the uncompressed tar archive r.
func NewReader(r io.Reader, l Limits) *Reader {
	l = l.withDefaults()
	return &Reader{
		tape:   newTape(r, l.Bytes, l.Entries, extendedBytes),
		limits: l,
		seed:   maphash.MakeSeed(),
		seen:   make(map[uint64]kind),
	}
}

// Next advances to the next entry and returns it; io.EOF after the last. An archive without its end mark, one that was cut off
// between two entries for instance, is ErrMalformed.
func (r *Reader) Next() (Entry, error) {
	if r.err != nil {
		return Entry{}, r.err
	}
	e, err := r.next()
	r.err = err
	return e, err
}

// Read reads the file that Next returned last; io.EOF at its end.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.tape.tar.Read(p)
	if err != nil && err != io.EOF {
		err = r.tape.failure(err)
	}
	return n, err
}

func (r *Reader) next() (Entry, error) {
	for {
		h, err := r.tape.next()
		switch {
		case errors.Is(err, ErrTooMany):
			return Entry{}, r.refuse("", err)
		case err != nil:
			return Entry{}, err
		}
		if h.Typeflag == tar.TypeDir && (h.Name == "./" || h.Name == ".") {
			continue // the archive's root itself
		}
		e, err := r.check(h)
		if err != nil {
			return Entry{}, r.refuse(h.Name, err)
		}
		return e, nil
	}
}

func (r *Reader) check(h *tar.Header) (Entry, error) {
	if isSparse(h) {
		return Entry{}, ErrSparse
	}
	dir := h.Typeflag == tar.TypeDir
	if !dir && h.Typeflag != tar.TypeReg {
		return Entry{}, ErrType
	}
	name, err := r.name(h.Name, dir)
	if err != nil {
		return Entry{}, err
	}
	if h.Size < 0 || dir && h.Size != 0 {
		return Entry{}, ErrMalformed
	}
	if h.Size > r.tape.raw.left {
		return Entry{}, ErrTooLarge
	}
	if err := r.record(name, dir); err != nil {
		return Entry{}, err
	}
	return Entry{Name: name, Dir: dir, Size: h.Size, Mode: fs.FileMode(h.Mode) & fs.ModePerm, ModTime: h.ModTime}, nil
}

// name returns the clean form of an entry's name, or why there is none.
func (r *Reader) name(raw string, dir bool) (string, error) {
	if len(raw) > r.limits.NameBytes {
		return "", ErrTooLong
	}
	if raw == "" || raw[0] == '/' || !dir && strings.HasSuffix(raw, "/") {
		return "", ErrName
	}
	// CRIU and the runtimes name their files in plain ASCII. In other characters, two names may look alike, or be one for a file system.
	if strings.ContainsFunc(raw, func(c rune) bool { return c == '\\' || c < ' ' || c > '~' }) {
		return "", ErrName
	}
	name := path.Clean(raw)
	if name == "." {
		return "", ErrName
	}
	elements := strings.Split(strings.TrimSuffix(raw, "/"), "/")
	for _, e := range elements {
		// A layer's whiteout would delete or hide what lies below it.
		if e == ".." || strings.HasPrefix(e, ".wh.") {
			return "", ErrName
		}
	}
	if strings.Count(name, "/")+1 > r.limits.Depth {
		return "", ErrTooDeep
	}
	return name, nil
}

// record notes the entry and the directories above it, which count like entries. Names are kept, in lower case, as 64-bit hashes under a
// random seed: a clash, which refuses a good archive, has a probability of 1e-9 for 1e5 entries, and can't be provoked.
func (r *Reader) record(name string, dir bool) error {
	name = strings.ToLower(name)
	for i, c := range name {
		if c != '/' {
			continue
		}
		key := maphash.String(r.seed, name[:i])
		switch r.seen[key] {
		case file:
			return ErrConflict
		case 0:
			r.seen[key] = implied
		}
	}
	key := maphash.String(r.seed, name)
	before := r.seen[key]
	if before != 0 && (!dir || before != implied) {
		return ErrConflict
	}
	r.seen[key] = file
	if dir {
		r.seen[key] = directory
	}
	if len(r.seen) > r.limits.Entries {
		return ErrTooMany
	}
	return nil
}

// refuse names the entry by its place, and by its name only where that is one of ours: what else an archive's names say goes into no log,
// no event and no status.
func (r *Reader) refuse(name string, why error) error {
	return fmt.Errorf("reading archive entry %s: %w", subject(name, r.tape.entries), why)
}

func subject(name string, n int) string {
	if _, known := kept[name]; known {
		return strconv.Quote(name)
	}
	return "number " + strconv.Itoa(n)
}
