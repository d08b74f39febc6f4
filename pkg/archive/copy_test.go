// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
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

// identity is of the container that archivetest.Checkpoint is of.
var identity = archive.Identity{
	ID: archivetest.ContainerID, Name: "app", Namespace: "team-a", Pod: "web-0", PodUID: "u1",
	BaseImage: "registry.example/app:1", BaseImageRef: "registry.example/app@sha256:bb", CheckpointedAt: archivetest.Time,
	Annotations: map[string]string{"io.kubernetes.container.hash": "0"},
}

func TestCopy(t *testing.T) {
	evil := archivetest.File("checkpoint/core-1.img", "core")
	evil.Header.Mode, evil.Header.Uid, evil.Header.Gname = 0o4755, 1000, "root"
	evil.Header.Format = tar.FormatPAX
	evil.Header.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "all"}
	in := archivetest.Checkpoint(evil, archivetest.File("stats-dump", statsDump(t)), archivetest.File("bind.mounts", "[]"))

	var out bytes.Buffer
	m, err := archive.Copy(&out, bytes.NewReader(archivetest.Tar(in...)), identity, archive.Limits{})
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
	delete(want, "status")
	delete(want, "bind.mounts")
	for _, rewritten := range []string{"config.dump", "spec.dump", "status.dump"} {
		delete(want, rewritten)
		delete(got, rewritten)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("copied contents (-want +got):\n%s", diff)
	}

	if m.ContainerID != archivetest.ContainerID {
		t.Errorf("metadata is not that of the archive: %+v", m)
	}
	wantDump := &archive.DumpStats{
		Freezing: 1500 * time.Microsecond, Frozen: 230 * time.Millisecond,
		MemDump: 120 * time.Millisecond, MemWrite: 80 * time.Millisecond, PagesWritten: 4096,
	}
	if diff := cmp.Diff(wantDump, m.Dump); diff != "" {
		t.Errorf("dump statistics (-want +got):\n%s", diff)
	}
	if m.Entries != len(in)-2 {
		t.Errorf("got %d entries, want %d", m.Entries, len(in)-2)
	}
}

func gz(raw []byte) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(raw)
	_ = w.Close()
	return b.String()
}

// withChanges are the entries of a checkpoint whose container has changed these.
func withChanges(entries ...archivetest.Entry) []archivetest.Entry {
	all := archivetest.Checkpoint()
	for i := range all {
		if all[i].Header.Name == "rootfs-diff.tar" {
			all[i] = archivetest.File("rootfs-diff.tar", archivetest.Changes(entries...))
		}
	}
	return all
}

func TestCopyKeepsChanges(t *testing.T) {
	all := withChanges(archivetest.File("/etc/x", "y"), archivetest.Dir("./"), archivetest.File("a/.wh..wh..opq", ""),
		special(tar.TypeSymlink, "link", "/etc/shadow"), special(tar.TypeLink, "hard", "etc/x"), special(tar.TypeFifo, "pipe", ""))
	if _, err := archive.Copy(io.Discard, bytes.NewReader(archivetest.Tar(all...)), identity, archive.Limits{}); err != nil {
		t.Error(err)
	}
	for i := range all {
		if all[i].Header.Name == "rootfs-diff.tar" {
			all[i] = archivetest.File("rootfs-diff.tar", "")
		}
	}
	if _, err := archive.Copy(io.Discard, bytes.NewReader(archivetest.Tar(all...)), identity, archive.Limits{}); err != nil {
		t.Errorf("nothing has changed: %v", err)
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
		"of another container": {
			entries: []archivetest.Entry{pages, spec, file("config.dump", `{"id":"c2"}`)}, want: archive.ErrForeign,
		},
		"another case":               {entries: archivetest.Checkpoint(file("Config.dump", "{}")), want: archive.ErrConflict},
		"changes that are no gzip":   {entries: []archivetest.Entry{pages, config, spec, file("rootfs-diff.tar", "diff")}, want: archive.ErrMalformed},
		"changes with a device":      {entries: withChanges(special(tar.TypeBlock, "dev/sda", "")), want: archive.ErrType},
		"changes that climb":         {entries: withChanges(file("a/../../b", "")), want: archive.ErrName},
		"changes that link outwards": {entries: withChanges(special(tar.TypeLink, "a", "../../etc/shadow")), want: archive.ErrName},
		"changes, sparse": {
			entries: []archivetest.Entry{pages, config, spec, file("rootfs-diff.tar", gz(sparse()))}, want: archive.ErrSparse,
		},
		"changes, cut off": {
			entries: []archivetest.Entry{pages, config, spec, file("rootfs-diff.tar", archivetest.Changes(file("a", "b"))[:30])}, want: archive.ErrMalformed,
		},
		"changes, and more": {
			entries: []archivetest.Entry{pages, config, spec, file("rootfs-diff.tar", archivetest.Changes(file("a", "b"))+"more")}, want: archive.ErrMalformed,
		},
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
			m, err := archive.Copy(io.Discard, bytes.NewReader(raw), identity, archive.Limits{})
			if !errors.Is(err, tt.want) || m != nil {
				t.Errorf("copying: got %v and error %v, want nil and %v", m, err, tt.want)
			}
		})
	}
}

func TestCopyStopsWhenTheWriterFails(t *testing.T) {
	full := errors.New("no space left")
	raw := archivetest.Tar(archivetest.Checkpoint()...)
	if _, err := archive.Copy(errWriter{full}, bytes.NewReader(raw), identity, archive.Limits{}); !errors.Is(err, full) {
		t.Errorf("got error %v, want %v", err, full)
	}
}

type errWriter struct{ err error }

func (w errWriter) Write([]byte) (int, error) { return 0, w.err }

func TestCopyToleratesBrokenStatistics(t *testing.T) {
	good := statsDump(t)
	for name, content := range map[string]string{
		"empty": "", "short": good[:8], "cut off": good[:20], "other magic": "x" + good[1:], "garbage": good[:12] + "\xff\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			raw := archivetest.Tar(archivetest.Checkpoint(archivetest.File("stats-dump", content))...)
			m, err := archive.Copy(io.Discard, bytes.NewReader(raw), identity, archive.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if m.Dump != nil {
				t.Errorf("got statistics %+v of garbage", m.Dump)
			}
		})
	}
}
