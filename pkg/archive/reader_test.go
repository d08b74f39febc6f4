// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/pkg/archive"
	"github.com/cryopod/cryopod/pkg/archive/archivetest"
)

func special(kind byte, name, link string) archivetest.Entry {
	return archivetest.Entry{Header: tar.Header{Typeflag: kind, Name: name, Linkname: link}}
}

// sparse is an old GNU sparse file of 1 TiB: Go's writer can't make one, so the header is patched and summed up again.
func sparse() []byte {
	raw := archivetest.Tar(archivetest.File("checkpoint/pages-1.img", ""))
	raw[156] = tar.TypeGNUSparse
	copy(raw[257:], "ustar  \x00")
	copy(raw[345:], strings.Repeat("\x00", 155))
	copy(raw[483:], "17777777777\x00")
	return checksum(raw)
}

// paxSparse is a sparse file as GNU tar writes it in version 1.0. Go's writer refuses such records, so their names are patched in.
func paxSparse() []byte {
	e := archivetest.File("x", "1\n0\n0\n"+strings.Repeat("\x00", 506))
	e.Header.Format = tar.FormatPAX
	e.Header.PAXRecords = map[string]string{"CRYOPOD.sp.major": "1", "CRYOPOD.sp.minor": "0", "CRYOPOD.sp.realsize": "1099511627776"}
	return bytes.ReplaceAll(archivetest.Tar(e), []byte("CRYOPOD.sp."), []byte("GNU.sparse."))
}

func checksum(raw []byte) []byte {
	copy(raw[148:156], "        ")
	sum := 0
	for _, b := range raw[:512] {
		sum += int(b)
	}
	copy(raw[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return raw
}

func rename(raw []byte, from, to string) []byte {
	copy(raw[bytes.Index(raw, []byte(from)):], to)
	return checksum(raw)
}

func TestReaderRefuses(t *testing.T) {
	file, dir := archivetest.File, archivetest.Dir
	tarOf := archivetest.Tar
	deep := strings.Repeat("d/", 20) + "f"
	tests := map[string]struct {
		raw    []byte
		limits archive.Limits
		want   error
	}{
		"symbolic link":              {raw: tarOf(special(tar.TypeSymlink, "config.dump", "/etc/shadow")), want: archive.ErrType},
		"hard link":                  {raw: tarOf(special(tar.TypeLink, "a", "/etc/shadow")), want: archive.ErrType},
		"character device":           {raw: tarOf(special(tar.TypeChar, "dev/mem", "")), want: archive.ErrType},
		"block device":               {raw: tarOf(special(tar.TypeBlock, "sda", "")), want: archive.ErrType},
		"named pipe":                 {raw: tarOf(special(tar.TypeFifo, "pipe", "")), want: archive.ErrType},
		"absolute name":              {raw: tarOf(file("/etc/passwd", "x")), want: archive.ErrName},
		"climbing name":              {raw: tarOf(file("../../etc/passwd", "x")), want: archive.ErrName},
		"climbing inside":            {raw: tarOf(file("a/../../b", "x")), want: archive.ErrName},
		"harmless climbing":          {raw: tarOf(file("a/../b", "x")), want: archive.ErrName},
		"whiteout":                   {raw: tarOf(file(".wh.config.dump", "")), want: archive.ErrName},
		"opaque directory":           {raw: tarOf(file("checkpoint/.wh..wh..opq", "")), want: archive.ErrName},
		"below a whiteout":           {raw: tarOf(file(".wh.a/b", "")), want: archive.ErrName},
		"newline":                    {raw: tarOf(file("a\nb", "x")), want: archive.ErrName},
		"not UTF-8":                  {raw: rename(tarOf(file("aaaa", "x")), "aaaa", "a\xff\xfea"), want: archive.ErrName},
		"backslash":                  {raw: tarOf(file(`..\..\x`, "x")), want: archive.ErrName},
		"empty name":                 {raw: rename(tarOf(file("a", "x")), "a", "\x00"), want: archive.ErrName},
		"file with slash":            {raw: rename(tarOf(file("ab", "x")), "ab", "a/"), want: archive.ErrName},
		"file named as the root":     {raw: tarOf(file(".", "x")), want: archive.ErrName},
		"same name twice":            {raw: tarOf(file("a", "1"), file("a", "2")), want: archive.ErrConflict},
		"same name spelt otherwise":  {raw: tarOf(file("a/b", "1"), file("./a//b", "2")), want: archive.ErrConflict},
		"same directory twice":       {raw: tarOf(dir("a/"), dir("a/")), want: archive.ErrConflict},
		"below a file":               {raw: tarOf(file("a", "1"), file("a/b", "2")), want: archive.ErrConflict},
		"file over a directory":      {raw: tarOf(file("a/b", "1"), file("a", "2")), want: archive.ErrConflict},
		"old sparse file":            {raw: sparse(), want: archive.ErrSparse},
		"too deep":                   {raw: tarOf(file(deep, "x")), want: archive.ErrTooDeep},
		"too long":                   {raw: tarOf(file(strings.Repeat("n", 600), "x")), want: archive.ErrTooLong},
		"too many":                   {raw: tarOf(file("a", ""), file("b", ""), file("c", "")), limits: archive.Limits{Entries: 2}, want: archive.ErrTooMany},
		"the root over and over":     {raw: tarOf(dir("./"), dir("./"), dir("./")), limits: archive.Limits{Entries: 2}, want: archive.ErrTooMany},
		"more bytes than allowed":    {raw: tarOf(file("a", strings.Repeat("x", 5000))), limits: archive.Limits{Bytes: 4096}, want: archive.ErrTooLarge},
		"more headers than allowed":  {raw: tarOf(file("a", ""), file("b", ""), file("c", ""), file("d", "")), limits: archive.Limits{Bytes: 1500}, want: archive.ErrTooLarge},
		"cut off in a file":          {raw: tarOf(file("a", strings.Repeat("x", 5000)))[:2000], want: archive.ErrMalformed},
		"cut off between two files":  {raw: tarOf(file("a", "x"), file("b", "x"))[:1024], want: archive.ErrMalformed},
		"cut off in the end mark":    {raw: tarOf(file("a", "x"))[:1024+512], want: archive.ErrMalformed},
		"empty":                      {raw: nil, want: archive.ErrMalformed},
		"not a tar":                  {raw: bytes.Repeat([]byte("cryopod!"), 128), want: archive.ErrMalformed},
		"compressed":                 {raw: append([]byte{0x1f, 0x8b, 8, 0}, make([]byte, 600)...), want: archive.ErrMalformed},
		"wrong sum":                  {raw: append([]byte{'z'}, tarOf(file("a", "x"))[1:]...), want: archive.ErrMalformed},
		"directory that has content": {raw: dirWithContent(), want: archive.ErrMalformed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := drain(archive.NewReader(bytes.NewReader(tt.raw), tt.limits))
			if !errors.Is(err, tt.want) {
				t.Fatalf("got error %v, want %v", err, tt.want)
			}
			if len(err.Error()) > 120 {
				t.Errorf("error has %d bytes: %q", len(err.Error()), err)
			}
		})
	}
}

func dirWithContent() []byte {
	raw := archivetest.Tar(archivetest.Dir("a/"))
	copy(raw[124:], "00000001000\x00")
	return checksum(raw)
}

func drain(r *archive.Reader) error {
	for {
		if _, err := r.Next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
	}
}

func TestReaderRefusesPAXSparse(t *testing.T) {
	raw := paxSparse()
	if !bytes.Contains(raw, []byte("GNU.sparse.realsize")) {
		t.Fatal("the archive was not patched")
	}
	if err := drain(archive.NewReader(bytes.NewReader(raw), archive.Limits{})); !errors.Is(err, archive.ErrSparse) {
		t.Errorf("got error %v, want %v", err, archive.ErrSparse)
	}
}

func TestReaderReads(t *testing.T) {
	entries := archivetest.Checkpoint(archivetest.File("./x//y", "z"), archivetest.Dir("x/"), archivetest.Dir("./"))
	entries[3].Header.Mode = 0o7755
	entries[3].Header.Uid = 1000
	r := archive.NewReader(bytes.NewReader(archivetest.Tar(entries...)), archive.Limits{})
	var got []archive.Entry
	contents := map[string]string{}
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		e.ModTime = e.ModTime.UTC()
		got, contents[e.Name] = append(got, e), string(content)
	}
	at := archivetest.Time
	want := []archive.Entry{
		{Name: "checkpoint", Dir: true, Mode: 0o700, ModTime: at},
		{Name: "checkpoint/inventory.img", Size: 9, Mode: 0o600, ModTime: at},
		{Name: "checkpoint/pages-1.img", Size: 16384, Mode: 0o600, ModTime: at},
		{Name: "config.dump", Size: int64(len(archivetest.Config)), Mode: 0o755, ModTime: at},
		{Name: "container.log", Size: 6, Mode: 0o600, ModTime: at},
		{Name: "rootfs-diff.tar", Size: entries[5].Header.Size, Mode: 0o600, ModTime: at},
		{Name: "spec.dump", Size: int64(len(archivetest.Spec)), Mode: 0o600, ModTime: at},
		{Name: "status", Size: 2, Mode: 0o600, ModTime: at},
		{Name: "status.dump", Size: int64(len(archivetest.Status)), Mode: 0o600, ModTime: at},
		{Name: "x/y", Size: 1, Mode: 0o600, ModTime: at},
		{Name: "x", Dir: true, Mode: 0o700, ModTime: at},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if contents["config.dump"] != archivetest.Config || contents["x/y"] != "z" {
		t.Errorf("contents are not those of the archive: %q", contents)
	}
}

func TestReaderStaysRefused(t *testing.T) {
	raw := archivetest.Tar(special(tar.TypeSymlink, "a", "b"), archivetest.File("good", "x"))
	r := archive.NewReader(bytes.NewReader(raw), archive.Limits{})
	_, first := r.Next()
	_, second := r.Next()
	if !errors.Is(first, archive.ErrType) || !errors.Is(second, archive.ErrType) {
		t.Errorf("got errors %v, then %v; want %v twice", first, second, archive.ErrType)
	}
}

func TestReaderPassesOnSourceErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	raw := archivetest.Tar(archivetest.Checkpoint()...)
	src := io.MultiReader(bytes.NewReader(raw[:700]), errReader{broken})
	err := drain(archive.NewReader(src, archive.Limits{}))
	if !errors.Is(err, broken) || errors.Is(err, archive.ErrMalformed) {
		t.Errorf("got error %v, want %v and not %v", err, broken, archive.ErrMalformed)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
