// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
)

// WithFiles returns img with one layer more, of files that anyone may read and execute: scripts for a test's workload,
// say. The keys are absolute paths, in directories that need not exist.
func WithFiles(img v1.Image, files map[string][]byte) (v1.Image, error) {
	made, err := packMemory(func(archive *tar.Writer) error {
		for _, path := range slices.Sorted(maps.Keys(files)) {
			if !strings.HasPrefix(path, "/") {
				return fmt.Errorf("writing %q: it is not an absolute path", path)
			}
			if err := writeFiles(archive, file{name: path[1:], mode: 0o755, content: files[path]}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	added, err := mutate.Append(img, mutate.Addendum{
		Layer:     made,
		MediaType: types.OCILayer,
		History:   v1.History{CreatedBy: "cryopod files", Created: v1.Time{Time: debian.SourceDate}},
	})
	if err != nil {
		return nil, fmt.Errorf("adding layer: %w", err)
	}
	return added, nil
}

// file is a file of a layer that is made in memory, or a directory when its name ends with a slash.
type file struct {
	name    string
	mode    int64
	content []byte
}

func writeFiles(archive *tar.Writer, files ...file) error {
	for _, f := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: debian.SourceDate,
		}
		if strings.HasSuffix(f.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("writing %q: %w", f.name, err)
		}
		if _, err := archive.Write(f.content); err != nil {
			return fmt.Errorf("writing %q: %w", f.name, err)
		}
	}
	return nil
}
