// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/sys/unix"

	"github.com/cryopod/cryopod/test/e2e/image"
)

// build makes an image of a tree that was laid over lower.
func build(t *testing.T, root, lower string, on v1.Image, onLayout string) (v1.Image, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := image.WriteLayout(dir, root, lower, on, onLayout); err != nil {
		t.Fatal(err)
	}
	built, err := image.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(built); err != nil {
		t.Errorf("the image is not valid: %v", err)
	}
	return built, dir
}

// topFiles lists the last layer of an image.
func topFiles(t *testing.T, img v1.Image) []string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[len(layers)-1].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	var files []string
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, fmt.Sprintf("%c %04o %s %s%s", header.Typeflag, header.Mode, header.Name, header.Linkname, text))
	}
}

func mustDo(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// tree makes files of every kind that a package has.
func tree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	mustDo(t,
		os.MkdirAll(at("usr/bin"), 0o755), os.Mkdir(at("dev"), 0o755), os.Mkdir(at("tmp"), 0o755),
		os.Chmod(at("tmp"), 0o777|os.ModeSticky),
		os.WriteFile(at("usr/bin/perl"), []byte("perl"), 0o755),
		os.Link(at("usr/bin/perl"), at("usr/bin/perl5")),
		os.WriteFile(at("usr/bin/su"), []byte("su"), 0o755), os.Chmod(at("usr/bin/su"), 0o755|os.ModeSetuid),
		os.Symlink("usr/bin", at("bin")),
		os.WriteFile(at("dev/null"), nil, 0o644),
		unix.Mkfifo(at("initctl"), 0o600),
	)
	return root
}

func TestTreeBecomesLayer(t *testing.T) {
	root := tree(t)
	built, _ := build(t, root, "", nil, "")
	want := []string{
		"2 0777 bin usr/bin", "5 0755 dev/ ", "6 0600 initctl ", "5 1777 tmp/ ", "5 0755 usr/ ", "5 0755 usr/bin/ ",
		"0 0755 usr/bin/perl perl", "1 0755 usr/bin/perl5 usr/bin/perl", "0 4755 usr/bin/su su",
	}
	if diff := cmp.Diff(want, topFiles(t, built)); diff != "" {
		t.Errorf("layer (-want +got):\n%s", diff)
	}
}

func TestDigestsDoNotDependOnTheDay(t *testing.T) {
	first := tree(t)
	second := tree(t)
	mustDo(t, os.Chtimes(filepath.Join(second, "usr/bin/su"), time.Unix(1, 0), time.Unix(1, 0)))
	a, _ := build(t, first, "", nil, "")
	b, _ := build(t, second, "", nil, "")
	if diff := cmp.Diff(digest(t, a), digest(t, b)); diff != "" {
		t.Errorf("digests differ:\n%s", diff)
	}
	mustDo(t, os.WriteFile(filepath.Join(second, "usr/bin/su"), []byte("sudo"), 0o755))
	c, _ := build(t, second, "", nil, "")
	if digest(t, c) == digest(t, a) {
		t.Error("other content has the same digest")
	}
}

func TestOverlayBecomesWhiteouts(t *testing.T) {
	lower, upper := t.TempDir(), t.TempDir()
	mustDo(t, os.Mkdir(filepath.Join(lower, "replaced"), 0o755))
	for _, name := range []string{"replaced", "new"} {
		mustDo(t, os.Mkdir(filepath.Join(upper, name), 0o755))
		if err := unix.Setxattr(filepath.Join(upper, name), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
			t.Skipf("marking as an overlay does needs root and a file system that keeps attributes: %v", err)
		}
	}
	if err := unix.Mknod(filepath.Join(upper, "gone"), unix.S_IFCHR, 0); err != nil {
		t.Skipf("making whiteouts needs root: %v", err)
	}
	built, _ := build(t, upper, lower, nil, "")
	want := []string{"0 0644 .wh.gone ", "5 0755 new/ ", "5 0755 replaced/ ", "0 0644 replaced/.wh..wh..opq "}
	if diff := cmp.Diff(want, topFiles(t, built)); diff != "" {
		t.Errorf("layer (-want +got):\n%s", diff)
	}
}

func TestImagesShareTheirBase(t *testing.T) {
	base, baseDir := build(t, tree(t), "", nil, "")
	upper := t.TempDir()
	mustDo(t, os.WriteFile(filepath.Join(upper, "more"), nil, 0o644))
	top, topDir := build(t, upper, "", base, baseDir)
	layers, err := base.Layers()
	if err != nil {
		t.Fatal(err)
	}
	shared, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	var files [2]os.FileInfo
	for i, dir := range []string{baseDir, topDir} {
		if files[i], err = os.Stat(filepath.Join(dir, "blobs", "sha256", shared.Hex)); err != nil {
			t.Fatal(err)
		}
	}
	if !os.SameFile(files[0], files[1]) {
		t.Error("the base layer is on the disk twice")
	}
	config, err := top.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if len(config.RootFS.DiffIDs) != 2 {
		t.Errorf("the image has %d layers, want 2", len(config.RootFS.DiffIDs))
	}
}

func digest(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}
