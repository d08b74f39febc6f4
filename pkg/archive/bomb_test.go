// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/cryopod/cryopod/pkg/archive"
	"github.com/cryopod/cryopod/pkg/archive/archivetest"
)

const (
	// What refusing an archive may take: seconds of a core, and bytes of heap above what was there before.
	mostTime = time.Second
	mostHeap = 64 << 20
	// patience is for a machine that is busy with other things.
	patience = time.Minute

	block = 512
)

// chunks is an archive that is made while it is read: each call gives its next part, nil after the last one.
type chunks struct {
	next func() []byte
	rest []byte
}

func (c *chunks) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.rest = c.next(); c.rest == nil {
			return 0, io.EOF
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// times gives part so often, changed by change where that is not nil.
func times(n int, part []byte, change func(i int, part []byte)) io.Reader {
	i := 0
	return &chunks{next: func() []byte {
		if i == n {
			return nil
		}
		if change != nil {
			change(i, part)
		}
		i++
		return part
	}}
}

const million = 1_000_000

// head is a header block with that type, name and size, and a right sum.
func head(kind byte, name, size string) []byte {
	h := make([]byte, block)
	copy(h, name)
	copy(h[100:], "0000600\x000000000\x000000000\x00")
	copy(h[124:], size)
	copy(h[136:], "00000000000\x00")
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	return checksum(h)
}

// extended is an extended header of that kind with that content.
func extended(kind byte, content string) []byte {
	out := head(kind, "x", fmt.Sprintf("%011o\x00", len(content)))
	out = append(out, content...)
	return append(out, make([]byte, -len(content)&(block-1))...)
}

func record(key, value string) string {
	for n := len(key) + len(value) + 3; ; n++ {
		if r := fmt.Sprintf("%d %s=%s\n", n, key, value); len(r) == n {
			return r
		}
	}
}

// numbered names the entries of an archive one after the other: n0000001.
func numbered(i int, part []byte) {
	copy(part, fmt.Sprintf("n%07d", i))
	checksum(part)
}

// gnuSparse is a sparse file as GNU tar has written them of old, whose map is continued in that many blocks.
func gnuSparse(more int) io.Reader {
	h := head(tar.TypeGNUSparse, "x", "00000000000\x00")
	copy(h[257:], "ustar  \x00")
	clear(h[345:])
	copy(h[483:], "77777777777\x00")
	if more > 0 {
		h[482] = 1
	}
	checksum(h)
	next := make([]byte, block)
	for i := range 21 {
		copy(next[i*24:], "00000000000\x0000000000000\x00")
	}
	next[504] = 1
	return io.MultiReader(bytes.NewReader(h), times(more, next, nil))
}

// base256 is a number as GNU tar writes those that octal digits have no room for.
func base256(first byte, rest ...byte) string {
	return string(append(append([]byte{first}, make([]byte, 11-len(rest))...), rest...))
}

// packed is a checkpoint whose changed files are this stream, packed: it is small, and made before the time counts.
func packed(t *testing.T, changes io.Reader) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, changes); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return checkpointWith("rootfs-diff.tar", b.String())
}

// checkpointWith is a good checkpoint but for one file.
func checkpointWith(name, content string) io.Reader {
	all := slices.DeleteFunc(archivetest.Checkpoint(), func(e archivetest.Entry) bool { return e.Header.Name == name })
	return bytes.NewReader(archivetest.Tar(append(all, archivetest.File(name, content))...))
}

// zeros is a regular file full of zeros, or the beginning of one.
func zeros(size int64, have int64) io.Reader {
	h := head(tar.TypeReg, "zeros", fmt.Sprintf("%011o\x00", size))
	if size >= 1<<33 {
		n := uint64(size)
		h = head(tar.TypeReg, "zeros", base256(0x80, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n)))
	}
	return io.MultiReader(bytes.NewReader(h), io.LimitReader(nulls{}, have))
}

type nulls struct{}

func (nulls) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// none are headers of entries without content.
var (
	none   = head(tar.TypeReg, "n0000000", "00000000000\x00")
	noneIn = head(tar.TypeReg, "n0000000/"+strings.Repeat("d/", 12)+"f", "00000000000\x00")
	folder = head(tar.TypeDir, "n0000000/", "00000000000\x00")
	root   = head(tar.TypeDir, "./", "00000000000\x00")
)

func join(parts ...[]byte) io.Reader { return bytes.NewReader(bytes.Join(parts, nil)) }

// withRecords is an entry with very many extended records.
func withRecords() []byte {
	var b strings.Builder
	for i := 0; b.Len() < 50<<10; i++ {
		b.WriteString(record(fmt.Sprintf("k%d", i), "v"))
	}
	return append(extended('x', b.String()), none...)
}

// bomb is an archive that is small, or never ends, and wants much.
type bomb struct {
	raw  func(t *testing.T) io.Reader
	want error
}

// of is for archives that need no test to be made.
func of(archive func() io.Reader) func(*testing.T) io.Reader {
	return func(*testing.T) io.Reader { return archive() }
}

var bombs = map[string]bomb{
	"1 TB sparse, GNU of old":     {of(func() io.Reader { return gnuSparse(0) }), archive.ErrSparse},
	"a sparse map without an end": {of(func() io.Reader { return gnuSparse(1 << 30) }), archive.ErrTooLarge},
	"1 TB sparse, PAX 0.0": {of(func() io.Reader {
		return join(extended('x', record("GNU.sparse.size", "1099511627776")+record("GNU.sparse.numblocks", "1")+
			record("GNU.sparse.offset", "0")+record("GNU.sparse.numbytes", "0")), none)
	}), archive.ErrSparse},
	"1 TB sparse, PAX 0.1": {of(func() io.Reader {
		return join(extended('x', record("GNU.sparse.size", "1099511627776")+record("GNU.sparse.numblocks", "1")+
			record("GNU.sparse.map", "0,0")+record("GNU.sparse.name", "config.dump")), none)
	}), archive.ErrSparse},
	"1 TB sparse, PAX 1.0": {of(func() io.Reader { return bytes.NewReader(paxSparse()) }), archive.ErrSparse},
	"an extended header of 1 GB": {of(func() io.Reader {
		return io.MultiReader(join(head('x', "x", "10000000000\x00")), io.LimitReader(nulls{}, 1<<30))
	}), archive.ErrTooLarge},
	"extended headers without an end": {of(func() io.Reader { return times(1<<30, extended('x', record("mtime", "1")), nil) }), archive.ErrTooLarge},
	"long names without an end": {of(func() io.Reader {
		return times(1<<30, extended('L', strings.Repeat("n", 50<<10)+"\x00"), nil)
	}), archive.ErrTooLarge},
	"long links without an end": {of(func() io.Reader {
		return times(1<<30, extended('K', strings.Repeat("n", 50<<10)+"\x00"), nil)
	}), archive.ErrTooLarge},
	"very many records for every entry": {of(func() io.Reader {
		return times(million, withRecords(), func(i int, p []byte) { numbered(i, p[len(p)-block:]) })
	}), archive.ErrTooLarge},
	"a global header":     {of(func() io.Reader { return join(extended('g', record("path", "x")), none) }), archive.ErrType},
	"10^7 files":          {of(func() io.Reader { return times(10*million, none, numbered) }), archive.ErrTooMany},
	"10^7 directories":    {of(func() io.Reader { return times(10*million, folder, numbered) }), archive.ErrTooMany},
	"10^7 times the root": {of(func() io.Reader { return times(10*million, root, nil) }), archive.ErrTooMany},
	"10^7 deep paths":     {of(func() io.Reader { return times(10*million, noneIn, numbered) }), archive.ErrTooMany},
	"a path of 30,000 directories": {of(func() io.Reader {
		return join(extended('L', strings.Repeat("d/", 30_000)+"f\x00"), none)
	}), archive.ErrTooLong},
	"a file that says it has 1 TB": {of(func() io.Reader { return zeros(1<<40, 1<<20) }), archive.ErrTooLarge},
	"a file that is cut off":       {of(func() io.Reader { return zeros(200<<30, 1<<20) }), archive.ErrMalformed},
	"a size of -1": {of(func() io.Reader {
		return join(head('0', "x", base256(0xff, bytes.Repeat([]byte{0xff}, 11)...)))
	}), archive.ErrMalformed},
	"a size of 2^95": {of(func() io.Reader {
		return join(head('0', "x", base256(0xbf, bytes.Repeat([]byte{0xff}, 11)...)))
	}), archive.ErrMalformed},
	"a size of -1 by record": {of(func() io.Reader { return join(extended('x', record("size", "-1")), none) }), archive.ErrMalformed},
	"a size of 2^63-1 by record": {of(func() io.Reader {
		return join(extended('x', record("size", "9223372036854775807")), none)
	}), archive.ErrTooLarge},
	"zeros without an end":     {of(func() io.Reader { return io.MultiReader(join(good()), nulls{}) }), archive.ErrMalformed},
	"something behind the end": {of(func() io.Reader { return join(good(), []byte("more")) }), archive.ErrMalformed},
	"two archives":             {of(func() io.Reader { return join(good(), good()) }), archive.ErrMalformed},
	"changes: a file that has 1 TB": {func(t *testing.T) io.Reader {
		return packed(t, zeros(1<<40, 1<<20))
	}, archive.ErrTooLarge},
	"changes: 1 TB in files of 1 MB": {func(t *testing.T) io.Reader {
		return packed(t, times(440, append(head('0', "n0000000", "00004000000\x00"), make([]byte, 1<<20)...), numbered))
	}, archive.ErrTooLarge},
	"changes: 10^7 files":        {func(t *testing.T) io.Reader { return packed(t, times(160_000, none, numbered)) }, archive.ErrTooMany},
	"changes: very many records": {func(t *testing.T) io.Reader { return packed(t, times(1000, withRecords(), nil)) }, archive.ErrTooLarge},
	"changes: headers without an end": {func(t *testing.T) io.Reader {
		return packed(t, times(1000, extended('x', record("mtime", "1")), nil))
	}, archive.ErrTooLarge},
	"changes: a sparse map without an end": {func(t *testing.T) io.Reader { return packed(t, gnuSparse(10_000)) }, archive.ErrTooLarge},
	"JSON: 2.7 million mounts": {of(func() io.Reader {
		return checkpointWith("spec.dump", `{"mounts":[{}`+strings.Repeat(",{}", 2_700_000)+`]}`)
	}), nil}, // well-formed, and rewritten unread
	"JSON: arrays in arrays": {of(func() io.Reader { return checkpointWith("spec.dump", strings.Repeat("[", 8<<20)) }), archive.ErrMalformed},
	"JSON: very many keys": {of(func() io.Reader {
		return checkpointWith("config.dump", `{"id":1`+strings.Repeat(`,"":0`, 200_000)+`}`)
	}), archive.ErrMalformed},
	"JSON: too large": {of(func() io.Reader { return checkpointWith("status.dump", strings.Repeat(" ", 2<<20)) }), archive.ErrTooLarge},
}

func good() []byte { return archivetest.Tar(archivetest.Checkpoint()...) }

// TestBombs measures what refusing each of them takes, and that it takes little.
func TestBombs(t *testing.T) {
	for name, b := range bombs {
		t.Run(name, func(t *testing.T) {
			raw := b.raw(t)
			runtime.GC()
			heap, stop := watchHeap()
			began, cpu := time.Now(), cpuTime(t)
			_, err := archive.Copy(io.Discard, raw, identity, archive.Limits{})
			took, used := time.Since(began), cpuTime(t)-cpu
			stop()
			if !errors.Is(err, b.want) {
				t.Errorf("got error %v, want %v", err, b.want)
			}
			t.Logf("refused in %s, %s of a core, at most %.1f MiB of heap: %v", took.Round(time.Millisecond), used.Round(time.Millisecond),
				float64(*heap)/(1<<20), err)
			if used > mostTime || took > patience {
				t.Errorf("it took %s and %s of a core, want at most %s", took, used, mostTime)
			}
			if *heap > mostHeap {
				t.Errorf("it took %d bytes of heap, want at most %d", *heap, mostHeap)
			}
		})
	}
}

// watchHeap notes by how much the heap grows, garbage included, until stop is called.
func watchHeap() (most *uint64, stop func()) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	base := read()
	most = new(uint64)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if now := read(); now > base {
				*most = max(*most, now-base)
			}
			select {
			case <-end:
				return
			case <-time.After(200 * time.Microsecond):
			}
		}
	}()
	return most, func() {
		close(end)
		<-ended
	}
}

// cpuTime is what this process has used of the cores: it does not count what others make it wait for.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
