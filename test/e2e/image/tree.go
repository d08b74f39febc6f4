// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
)

// Names that the OCI image specification gives to what a layer removes (layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// overlayOpaque marks a directory in an overlay's upper directory that hides the one below it.
const overlayOpaque = "trusted.overlay.opaque"

// treeWriter archives a directory that may be an overlay's upper one.
type treeWriter struct {
	archive *tar.Writer
	root    string
	// lower is what root was laid over, "" when it was nothing.
	lower string
	// links holds the first name of each file that has several.
	links map[uint64]string
}

// writeTree archives what is below root in the order of its names, with all dates the same and without the contents of
// /dev, which every container gets afresh. lower is what root was laid over as an overlay's upper directory, "" when it
// was not.
func writeTree(archive *tar.Writer, root, lower string) error {
	w := treeWriter{archive: archive, root: root, lower: lower, links: make(map[uint64]string)}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || name == "." || strings.HasPrefix(name, "dev/") {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return w.write(name, info)
	})
	if err != nil {
		return fmt.Errorf("archiving %q: %w", root, err)
	}
	return nil
}

func (w treeWriter) write(name string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("archiving %q: its owner is not known", name)
	}
	switch mode := info.Mode(); {
	case mode&fs.ModeSocket != 0:
		// A socket is nothing without its process.
		return nil
	case mode&fs.ModeCharDevice != 0 && stat.Rdev == 0:
		return w.archive.WriteHeader(whiteout(path.Join(path.Dir(name), whiteoutPrefix+path.Base(name))))
	}
	header, err := w.header(name, info, stat)
	if err != nil {
		return err
	}
	if err := w.archive.WriteHeader(header); err != nil {
		return err
	}
	if info.IsDir() {
		return w.writeOpaque(name)
	}
	if header.Typeflag != tar.TypeReg {
		return nil
	}
	file, err := os.Open(filepath.Join(w.root, name))
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(w.archive, file)
	return err
}

// header is the archive's header for a file, the same whenever and wherever it was installed.
func (w treeWriter) header(name string, info fs.FileInfo, stat *syscall.Stat_t) (*tar.Header, error) {
	full := filepath.Join(w.root, name)
	var target string
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(full); err != nil {
			return nil, err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return nil, err
	}
	header.Name = name
	if info.IsDir() {
		header.Name += "/"
	}
	header.Uname, header.Gname = "", ""
	header.ModTime, header.AccessTime, header.ChangeTime = debian.SourceDate, time.Time{}, time.Time{}
	header.Format = tar.FormatPAX
	if info.Mode().IsRegular() && stat.Nlink > 1 {
		if first, ok := w.links[stat.Ino]; ok {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
			return header, nil
		}
		w.links[stat.Ino] = name
	}
	capability, err := attribute(full, "security.capability")
	if err != nil {
		return nil, err
	}
	if capability != "" {
		header.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capability}
	}
	return header, nil
}

// writeOpaque tells that a directory hides the one below it, if the overlay says so. The overlay says so of every new
// directory, which hides nothing.
func (w treeWriter) writeOpaque(name string) error {
	if _, err := os.Lstat(filepath.Join(w.lower, name)); w.lower == "" || err != nil {
		return nil
	}
	opaque, err := attribute(filepath.Join(w.root, name), overlayOpaque)
	if err != nil || opaque != "y" {
		return err
	}
	return w.archive.WriteHeader(whiteout(path.Join(name, whiteoutOpaque)))
}

func whiteout(name string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: debian.SourceDate, Format: tar.FormatPAX}
}

// attribute returns a short extended attribute of a file, "" when it has none.
func attribute(path, name string) (string, error) {
	value := make([]byte, 256)
	n, err := unix.Lgetxattr(path, name, value)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading attribute %s of %q: %w", name, path, err)
	}
	return string(value[:n]), nil
}
