// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/stats"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/cryopod/cryopod/pkg/archive"
	"github.com/cryopod/cryopod/pkg/archive/archivetest"
)

func statsDump(t testing.TB) string {
	t.Helper()
	payload, err := proto.Marshal(&stats.StatsEntry{Dump: &stats.DumpStatsEntry{
		FreezingTime: proto.Uint32(1500), FrozenTime: proto.Uint32(230_000), MemdumpTime: proto.Uint32(120_000),
		MemwriteTime: proto.Uint32(80_000), PagesScanned: proto.Uint64(9000), PagesSkippedParent: proto.Uint64(0),
		PagesWritten: proto.Uint64(4096), PagesLazy: proto.Uint64(0),
	}})
	if err != nil {
		t.Fatal(err)
	}
	b := binary.LittleEndian.AppendUint32(nil, stats.ImgServiceMagic)
	b = binary.LittleEndian.AppendUint32(b, stats.StatsMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	return string(append(b, payload...))
}

func TestCopy(t *testing.T) {
	evil := archivetest.File("checkpoint/core-1.img", "core")
	evil.Header.Mode, evil.Header.Uid, evil.Header.Gname = 0o4755, 1000, "root"
	evil.Header.Format = tar.FormatPAX
	evil.Header.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "all"}
	in := archivetest.Checkpoint(evil, archivetest.File("stats-dump", statsDump(t)))

	var out bytes.Buffer
	m, err := archive.Copy(&out, bytes.NewReader(archivetest.Tar(in...)), archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}

	got := map[string]string{}
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
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
		got[h.Name] = string(content)
		if h.Uid != 0 || h.Gid != 0 || h.Gname != "" || h.Mode&^0o777 != 0 || len(h.PAXRecords) != 0 {
			t.Errorf("entry %q keeps what it should not: %+v", h.Name, h)
		}
	}
	want := map[string]string{}
	for _, e := range in {
		want[e.Header.Name] = e.Content
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("copied contents (-want +got):\n%s", diff)
	}

	if m.Config.ID != "c1" || m.Spec.Process.Args[0] != "/app" || m.Status.Image.UserSpecifiedImage != "registry.example/app:1" {
		t.Errorf("metadata is not that of the archive: %+v", m)
	}
	wantDump := &archive.DumpStats{
		Freezing: 1500 * time.Microsecond, Frozen: 230 * time.Millisecond,
		MemDump: 120 * time.Millisecond, MemWrite: 80 * time.Millisecond, PagesWritten: 4096,
	}
	if diff := cmp.Diff(wantDump, m.Dump); diff != "" {
		t.Errorf("dump statistics (-want +got):\n%s", diff)
	}
	if m.Entries != len(in) {
		t.Errorf("got %d entries, want %d", m.Entries, len(in))
	}
}

func TestCopyRefuses(t *testing.T) {
	file := archivetest.File
	pages := file("checkpoint/pages-1.img", "page")
	config, spec := file("config.dump", archivetest.Config), file("spec.dump", archivetest.Spec)
	tests := map[string]struct {
		entries []archivetest.Entry
		want    error
	}{
		"nothing":                {entries: nil, want: archive.ErrIncomplete},
		"no configuration":       {entries: []archivetest.Entry{pages, spec}, want: archive.ErrIncomplete},
		"null configuration":     {entries: []archivetest.Entry{pages, spec, file("config.dump", "null")}, want: archive.ErrIncomplete},
		"no specification":       {entries: []archivetest.Entry{pages, config}, want: archive.ErrIncomplete},
		"no images of CRIU":      {entries: []archivetest.Entry{archivetest.Dir("checkpoint/"), config, spec}, want: archive.ErrIncomplete},
		"config not JSON":        {entries: []archivetest.Entry{pages, spec, file("config.dump", "{")}, want: archive.ErrMalformed},
		"status of another kind": {entries: []archivetest.Entry{pages, config, spec, file("status.dump", "[]")}, want: archive.ErrMalformed},
		"huge configuration":     {entries: []archivetest.Entry{pages, spec, file("config.dump", string(make([]byte, 2<<20)))}, want: archive.ErrTooLarge},
		"configuration as directory": {
			entries: []archivetest.Entry{pages, spec, archivetest.Dir("config.dump/")}, want: archive.ErrIncomplete,
		},
		"link": {
			entries: archivetest.Checkpoint(special(tar.TypeSymlink, "container.log", "/etc/shadow")), want: archive.ErrType,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			raw := archivetest.Tar(tt.entries...)
			if _, err := archive.Copy(io.Discard, bytes.NewReader(raw), archive.Limits{}); !errors.Is(err, tt.want) {
				t.Errorf("copying: got error %v, want %v", err, tt.want)
			}
			m, err := archive.ReadMetadata(bytes.NewReader(raw), archive.Limits{})
			if !errors.Is(err, tt.want) || m != nil {
				t.Errorf("reading metadata: got %v and error %v, want nil and %v", m, err, tt.want)
			}
		})
	}
}

func TestCopyStopsWhenTheWriterFails(t *testing.T) {
	full := errors.New("no space left")
	raw := archivetest.Tar(archivetest.Checkpoint()...)
	if _, err := archive.Copy(errWriter{full}, bytes.NewReader(raw), archive.Limits{}); !errors.Is(err, full) {
		t.Errorf("got error %v, want %v", err, full)
	}
}

type errWriter struct{ err error }

func (w errWriter) Write([]byte) (int, error) { return 0, w.err }

func TestReadMetadataToleratesBrokenStatistics(t *testing.T) {
	good := statsDump(t)
	for name, content := range map[string]string{
		"empty": "", "short": good[:8], "cut off": good[:20], "other magic": "x" + good[1:], "garbage": good[:12] + "\xff\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			raw := archivetest.Tar(archivetest.Checkpoint(archivetest.File("stats-dump", content))...)
			m, err := archive.ReadMetadata(bytes.NewReader(raw), archive.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if m.Dump != nil {
				t.Errorf("got statistics %+v of garbage", m.Dump)
			}
		})
	}
}

func FuzzCopy(f *testing.F) {
	f.Add(archivetest.Tar(archivetest.Checkpoint()...))
	f.Add(archivetest.Tar(archivetest.Checkpoint(archivetest.File("stats-dump", statsDump(f)))...))
	f.Add(archivetest.Tar(special(tar.TypeSymlink, "config.dump", "/etc/shadow")))
	f.Add(archivetest.Tar(archivetest.File("../x", "y")))
	f.Add(sparse())
	f.Add(paxSparse())
	f.Add([]byte("no tar"))
	limits := archive.Limits{Bytes: 1 << 20, Entries: 100}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var out bytes.Buffer
		m, err := archive.Copy(&out, bytes.NewReader(raw), limits)
		if err != nil {
			return
		}
		// What was let through must be let through again, and say the same.
		var again bytes.Buffer
		m2, err := archive.Copy(&again, bytes.NewReader(out.Bytes()), archive.Limits{})
		if err != nil {
			t.Fatalf("copying the copy: %v", err)
		}
		if !bytes.Equal(out.Bytes(), again.Bytes()) || m.Bytes != m2.Bytes || m.Entries != m2.Entries {
			t.Error("the copy of the copy differs")
		}
	})
}
