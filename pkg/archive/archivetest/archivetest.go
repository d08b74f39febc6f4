// SPDX-License-Identifier: Apache-2.0

// Package archivetest makes checkpoint archives for tests, good ones and evil ones.
package archivetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"
)

// Time is the change time of every entry that has none of its own.
var Time = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// File is a regular file's header and content.
func File(name, content string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o600}, Content: content}
}

// Dir is a directory's header.
func Dir(name string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o700}}
}

// Entry is one entry of an archive.
type Entry struct {
	Header  tar.Header
	Content string
}

// The metadata files that every checkpoint has, as containerd writes them.
const (
	ContainerID = "c1"

	Config = `{"id":"c1","name":"app","rootfsImageRef":"registry.example/app@sha256:` +
		`aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","rootfsImageName":"registry.example/app:1",` +
		`"runtime":"io.containerd.runc.v2","checkpointedTime":"2026-03-04T05:06:07Z"}`
	Spec   = `{"ociVersion":"1.2.0","process":{"args":["/app"],"env":["SECRET=x"]}}`
	Status = `{"id":"c1","image":{"image":"sha256:bb","user_specified_image":"registry.example/app:1"},"image_ref":"sha256:bb"}`
)

// Checkpoint returns the entries of a small good archive, with more appended.
func Checkpoint(more ...Entry) []Entry {
	return append([]Entry{
		Dir("checkpoint/"),
		File("checkpoint/inventory.img", "inventory"),
		File("checkpoint/pages-1.img", strings.Repeat("page", 4096)),
		File("config.dump", Config),
		File("container.log", "hello\n"),
		File("rootfs-diff.tar", Changes(File("etc/motd", "hello"), File("tmp/.wh.old", ""))),
		File("spec.dump", Spec),
		File("status", "{}"),
		File("status.dump", Status),
	}, more...)
}

// Changes are a container's changed files as containerd packs them.
func Changes(entries ...Entry) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(Tar(entries...))
	if err := errors.Join(err, w.Close()); err != nil {
		panic(fmt.Sprintf("packing changed files: %v", err))
	}
	return b.String()
}

// Tar writes the entries as they are, wrong ones too, with an end mark.
func Tar(entries ...Entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.Header.ModTime.IsZero() {
			e.Header.ModTime = Time
		}
		if err := w.WriteHeader(&e.Header); err != nil {
			panic(fmt.Sprintf("writing header %q: %v", e.Header.Name, err))
		}
		if _, err := io.WriteString(w, e.Content); err != nil {
			panic(fmt.Sprintf("writing content of %q: %v", e.Header.Name, err))
		}
	}
	if err := w.Close(); err != nil {
		panic(fmt.Sprintf("ending archive: %v", err))
	}
	return b.Bytes()
}

// Heap returns n bytes that compress as a program's memory does: of each eight pages of 4 KiB, random says how many are random;
// the others hold small numbers and repeated words.
func Heap(n, random int) []byte {
	const page = 4096
	r := rand.New(rand.NewPCG(1, uint64(random)))
	b := make([]byte, n)
	for at := 0; at < n; at += page {
		p := b[at:min(at+page, n)]
		if at/page%8 < random {
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			continue
		}
		for i := 0; i+16 <= len(p); i += 16 {
			p[i] = byte(r.Uint32())
			p[i+1] = byte(r.Uint32() % 4)
			copy(p[i+8:], "\x00\x7f\xc0object")
		}
	}
	return b
}
