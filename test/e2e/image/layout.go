// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
)

// blobFolder is where an OCI layout keeps its blobs.
var blobFolder = filepath.Join("blobs", "sha256")

// writeLayout makes an OCI layout in dir of the image that build returns. build may put blobs, named by their digest,
// into the folder that it is given; they are not written again.
func writeLayout(dir string, build func(blobs string) (v1.Image, error)) error {
	blobs := filepath.Join(dir, blobFolder)
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return fmt.Errorf("making layout: %w", err)
	}
	image, err := build(blobs)
	if err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("making layout: %w", err)
	}
	if err := path.AppendImage(image); err != nil {
		return fmt.Errorf("writing image: %w", err)
	}
	return nil
}

// openLayout returns the one image of the layout in dir. Its layers are read when they are needed.
func openLayout(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("opening layout %q: %w", dir, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("reading layout %q: %w", dir, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("reading layout %q: it has %d images, not 1", dir, len(manifest.Manifests))
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return nil, fmt.Errorf("reading layout %q: %w", dir, err)
	}
	return image, nil
}

// linkLayers gives the layers of an image in another layout a second name in blobs, which costs no space.
func linkLayers(image v1.Image, from, blobs string) error {
	layers, err := image.Layers()
	if err != nil {
		return fmt.Errorf("listing layers: %w", err)
	}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			return fmt.Errorf("listing layers: %w", err)
		}
		err = os.Link(filepath.Join(from, digest.Hex), filepath.Join(blobs, digest.Hex))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("sharing layer %s: %w", digest, err)
		}
	}
	return nil
}

// assemble puts a layer on top of an image and gives the result a configuration.
func assemble(on v1.Image, top v1.Layer, name string, config v1.Config) (v1.Image, error) {
	image, err := mutate.Append(on, mutate.Addendum{
		Layer:     top,
		MediaType: types.OCILayer,
		History:   v1.History{CreatedBy: "cryopod " + name, Created: v1.Time{Time: debian.SourceDate}},
	})
	if err != nil {
		return nil, fmt.Errorf("adding layer: %w", err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading image's configuration: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Created = v1.Time{Time: debian.SourceDate}
	file.Config = config
	if image, err = mutate.ConfigFile(image, file); err != nil {
		return nil, fmt.Errorf("configuring image: %w", err)
	}
	return mutate.ConfigMediaType(mutate.MediaType(image, types.OCIManifestSchema1), types.OCIConfigJSON), nil
}

// config is what containers of an image made by r run.
func (r recipe) config() v1.Config {
	config := v1.Config{Cmd: r.command, Env: append([]string{searchPath}, r.env...), WorkingDir: r.dir}
	for _, port := range r.ports {
		if config.ExposedPorts == nil {
			config.ExposedPorts = make(map[string]struct{})
		}
		config.ExposedPorts[port] = struct{}{}
	}
	return config
}
