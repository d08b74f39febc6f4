// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/pkg/archive"
	"github.com/cryopod/cryopod/pkg/archive/archivetest"
)

func addArchives(f *testing.F) {
	f.Add(archivetest.Tar(archivetest.Checkpoint()...))
	f.Add(archivetest.Tar(archivetest.Checkpoint(archivetest.File("stats-dump", statsDump(f)))...))
	f.Add(archivetest.Tar(special(tar.TypeSymlink, "config.dump", "/etc/shadow")))
	f.Add(archivetest.Tar(archivetest.File("../x", "y")))
	f.Add(archivetest.Tar(archivetest.Checkpoint(archivetest.Dir("./"), archivetest.File("bind.mounts", "[]"))...))
	f.Add(sparse())
	f.Add(paxSparse())
	f.Add([]byte("no tar"))
}

// FuzzCopy: what a copy lets through has the form that it promises, says what the identity says, and a copy of it is the same.
func FuzzCopy(f *testing.F) {
	addArchives(f)
	limits := archive.Limits{Bytes: 1 << 20, Entries: 100}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var out bytes.Buffer
		m, err := archive.Copy(&out, bytes.NewReader(raw), identity, limits)
		if err != nil {
			if m != nil || !presentable(err.Error()) {
				t.Fatalf("refused with %v and error %q", m, err)
			}
			return
		}
		if m.Bytes > int64(len(raw)) || m.Entries > limits.Entries {
			t.Errorf("%d bytes and %d entries of %d bytes", m.Bytes, m.Entries, len(raw))
		}
		wellFormed(t, out.Bytes())
		var again bytes.Buffer
		if _, err := archive.Copy(&again, bytes.NewReader(out.Bytes()), identity, archive.Limits{}); err != nil {
			t.Fatalf("copying the copy: %v", err)
		}
		if !bytes.Equal(out.Bytes(), again.Bytes()) {
			t.Error("the copy of the copy differs")
		}
	})
}

// wellFormed checks all that a copy promises of its entries.
func wellFormed(t *testing.T, raw []byte) {
	t.Helper()
	seen := map[string]bool{}
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatalf("reading the copy: %v", err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		switch {
		case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir, h.Linkname != "", len(h.PAXRecords) > 0, h.Uid != 0, h.Mode&^0o777 != 0:
			t.Errorf("entry %+v", h)
		case seen[strings.ToLower(name)], strings.HasPrefix(name, "/"), strings.Contains(name, ".."+"/"), strings.HasPrefix(name, ".wh."):
			t.Errorf("name %q", name)
		}
		seen[strings.ToLower(name)] = true
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if want, ok := rewritten()[name]; ok {
			if diff := cmp.Diff(want, string(content)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

// rewritten are the metadata files of a copy under identity.
func rewritten() map[string]string {
	var out bytes.Buffer
	_, _ = archive.Copy(&out, bytes.NewReader(archivetest.Tar(archivetest.Checkpoint()...)), identity, archive.Limits{})
	all := map[string]string{}
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if err != nil {
			return all
		}
		content, _ := io.ReadAll(r)
		if strings.HasSuffix(h.Name, ".dump") {
			all[h.Name] = string(content)
		}
	}
}

// FuzzReader: whatever is read, entries come in the form that Entry promises, refused stays refused, and no more is read than allowed.
func FuzzReader(f *testing.F) {
	addArchives(f)
	limits := archive.Limits{Bytes: 64 << 10, Entries: 20, Depth: 4, NameBytes: 64}
	f.Fuzz(func(t *testing.T, raw []byte) {
		src := bytes.NewReader(raw)
		r := archive.NewReader(src, limits)
		var bytesRead int64
		for n := 0; ; n++ {
			e, err := r.Next()
			if err != nil {
				if _, again := r.Next(); again != err {
					t.Errorf("error %v, and then %v", err, again)
				}
				return
			}
			switch {
			case n >= limits.Entries, e.Size < 0, len(e.Name) > limits.NameBytes, strings.Count(e.Name, "/") >= limits.Depth, e.Mode&^0o777 != 0:
				t.Errorf("entry %d: %+v", n, e)
			case e.Name == "" || e.Name[0] == '/' || e.Name == "." || e.Dir && e.Size != 0:
				t.Errorf("entry %d: %+v", n, e)
			}
			got, err := io.Copy(io.Discard, r)
			if err == nil && got != e.Size {
				t.Errorf("%d bytes of %d", got, e.Size)
			}
			if bytesRead += got; bytesRead > limits.Bytes {
				t.Errorf("read %d bytes", bytesRead)
			}
		}
	})
}

// FuzzChanges: whatever is in the place of the packed changed files, a checkpoint is refused or copied with them as they are.
func FuzzChanges(f *testing.F) {
	f.Add([]byte(archivetest.Changes(archivetest.File("a", "b"))), true)
	f.Add(archivetest.Tar(archivetest.File("a", "b"), special(tar.TypeLink, "c", "../d")), false)
	f.Add(archivetest.Tar(special(tar.TypeChar, "dev/null", "")), false)
	f.Add(sparse(), false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, changes []byte, packed bool) {
		if !packed {
			changes = []byte(gz(changes))
		}
		in := archivetest.Tar(
			archivetest.File("checkpoint/pages-1.img", "page"), archivetest.File("config.dump", archivetest.Config),
			archivetest.File("rootfs-diff.tar", string(changes)), archivetest.File("spec.dump", archivetest.Spec))
		var out bytes.Buffer
		if _, err := archive.Copy(&out, bytes.NewReader(in), identity, archive.Limits{}); err != nil {
			if !presentable(err.Error()) {
				t.Errorf("error %q", err)
			}
			return
		}
		if !bytes.Contains(out.Bytes(), changes) {
			t.Error("the changed files have changed")
		}
	})
}

// FuzzDumps: whatever is in the metadata files, none of it gets into the copy or into an error.
func FuzzDumps(f *testing.F) {
	f.Add(archivetest.Config, archivetest.Spec, archivetest.Status)
	f.Add(`{"id":"c1","checkpointedTime":"CANARY"}`, `{"ociVersion":CANARY}`, `[]`)
	f.Add(`{"id":"c1"}`, `{"mounts":[{"source":"/"}],"linux":{"devices":[{"path":"/dev/sda"}]}}`, `{"annotations":{"cdi.k8s.io/x":"vendor.com/gpu=all"}}`)
	f.Add(`null`, `null`, `null`)
	f.Fuzz(func(t *testing.T, config, spec, status string) {
		in := archivetest.Tar(archivetest.File("checkpoint/pages-1.img", "page"), archivetest.File("config.dump", config),
			archivetest.File("spec.dump", spec), archivetest.File("status.dump", status))
		var out bytes.Buffer
		_, err := archive.Copy(&out, bytes.NewReader(in), identity, archive.Limits{})
		if err != nil {
			if !presentable(err.Error()) || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("error %q", err)
			}
			return
		}
		wellFormed(t, out.Bytes())
	})
}

// FuzzStats: statistics are read or refused, and what is read is not negative.
func FuzzStats(f *testing.F) {
	good := statsDump(f)
	for _, s := range []string{good, "", good[:8], good[:20], "x" + good[1:], good[:12] + "\xff\xff\xff\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := archive.ParseDumpStats(raw)
		if (got == nil) == (err == nil) {
			t.Fatalf("got %v and error %v", got, err)
		}
		if got != nil && (got.Freezing < 0 || got.Frozen < 0 || got.MemDump < 0 || got.MemWrite < 0) {
			t.Errorf("negative: %+v", got)
		}
	})
}

// FuzzFailure: of a log of CRIU comes one line that may be shown, and of its lines that are no errors nothing.
func FuzzFailure(f *testing.F) {
	f.Add("(00.004155) Error (criu/sk-inet.c:191): inet: Unsupported proto 262 for socket 1a3b.\n(00.005500) Error (criu/cr-dump.c:2098): Dumping FAILED.\n")
	f.Add("(00.1)      1: Error (criu/files-reg.c:1831): Can't open file dev/shm/x: No such file or directory\n")
	f.Add("Error (a.c:1): \x1b[31m\xff\n")
	f.Fuzz(func(t *testing.T, log string) {
		got := archive.Failure(strings.NewReader(log))
		if !presentable(got) {
			t.Errorf("got %q", got)
		}
		if got != "" && !strings.Contains(log, "Error (") {
			t.Errorf("got %q of a log without errors", got)
		}
	})
}

// presentable tells whether the text is one short line that can be printed.
func presentable(s string) bool {
	return len(s) <= 300 && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// FuzzPresentable: what may be shown is one short printable line, and stays as it is when it is made presentable again; what looks like a key is
// not in it.
func FuzzPresentable(f *testing.F) {
	const key = "AKIA1234567890ABCDEF"
	for _, s := range []string{
		"inet: Unsupported proto 262 for socket 1a3b", "Can't open file /home/app/secret.db: No such file", "PASSWORD=hunter2", "ret=-22",
		"\x1b]0;x\x07", strings.Repeat("word ", 200), "'", "dev/shm", "…", "a=b=c", "((((((((((((((",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := archive.Presentable(s)
		if !presentable(got) {
			t.Errorf("got %q", got)
		}
		if again := archive.Presentable(got); again != got {
			t.Errorf("got %q, and then %q", got, again)
		}
		for _, with := range []string{s + " " + key, key + " " + s, s + "/" + key, s + "=" + key, s + key} {
			if got := archive.Presentable(with); strings.Contains(got, key) {
				t.Errorf("%q became %q", with, got)
			}
		}
	})
}
