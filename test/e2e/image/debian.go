// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/cache"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/progress"
)

//go:embed install.sh
var installScript string

// Folders of the cache.
const (
	kindImage = "image"
	kindRoot  = "image-root"
)

// debianImages builds images from Debian packages.
type debianImages struct {
	store *cache.Cache
	log   *progress.Log
}

// base returns the image that has the base layer only.
func (d debianImages) base(ctx context.Context) (v1.Image, error) {
	entry := cache.Entry{Kind: kindImage, Version: DebianBase, Key: baseKey()}
	return d.ensure(ctx, entry, func(ctx context.Context, dir string) error {
		root, err := d.root(ctx)
		if err != nil {
			return err
		}
		return writeLayout(dir, func(blobs string) (v1.Image, error) {
			layer, err := packTree(root, "", blobs)
			if err != nil {
				return nil, err
			}
			return assemble(empty.Image, layer, DebianBase, baseRecipe.config())
		})
	})
}

// root returns the base as a directory, which the other images are installed over.
func (d debianImages) root(ctx context.Context) (string, error) {
	entry := cache.Entry{Kind: kindRoot, Version: debian.Suite, Key: baseKey()}
	return d.store.Ensure(ctx, entry, func(ctx context.Context, dir string) error {
		return debian.Bootstrap(ctx, dir, basePackages...)
	})
}

// onTop returns the image that r makes from the base.
func (d debianImages) onTop(ctx context.Context, name string, r recipe) (v1.Image, error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	entry := cache.Entry{Kind: kindImage, Version: name, Key: key}
	if image, ok, err := d.lookup(entry); ok || err != nil {
		return image, err
	}
	base, err := d.base(ctx)
	if err != nil {
		return nil, err
	}
	return d.ensure(ctx, entry, func(ctx context.Context, dir string) error {
		work := filepath.Join(dir, "work")
		root, err := d.root(ctx)
		if err != nil {
			return err
		}
		upper, err := d.install(ctx, work, root, r)
		if err != nil {
			return err
		}
		err = writeLayout(dir, func(blobs string) (v1.Image, error) {
			if err := linkLayers(base, filepath.Join(d.baseLayout(), blobFolder), blobs); err != nil {
				return nil, err
			}
			layer, err := packTree(upper, root, blobs)
			if err != nil {
				return nil, err
			}
			return assemble(base, layer, name, r.config())
		})
		if err != nil {
			return err
		}
		return cache.Remove(work)
	})
}

func (d debianImages) baseLayout() string {
	path, _ := d.store.Lookup(cache.Entry{Kind: kindImage, Version: DebianBase, Key: baseKey()})
	return path
}

// install installs r's packages over root and returns the directory with what that changed.
func (d debianImages) install(ctx context.Context, work, root string, r recipe) (string, error) {
	mirror, err := debian.Mirror(ctx)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(work, 0o755); err != nil {
		return "", fmt.Errorf("making overlay: %w", err)
	}
	args := append([]string{"-c", installScript, "install.sh", work, root, mirror, debian.Suite}, r.packages...)
	if _, err := debian.Run(debian.Isolated(ctx, "/bin/sh", args...)); err != nil {
		return "", fmt.Errorf("installing %v: %w", r.packages, err)
	}
	upper := filepath.Join(work, "upper")
	for _, name := range r.remove {
		if err := os.Remove(filepath.Join(upper, name)); err != nil {
			return "", fmt.Errorf("leaving out %q: %w", name, err)
		}
	}
	for name, content := range r.scripts {
		// All of them are below folders that Debian has.
		if err := os.MkdirAll(filepath.Dir(filepath.Join(upper, name)), 0o755); err != nil {
			return "", fmt.Errorf("adding %q: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(upper, name), []byte(content), 0o755); err != nil {
			return "", fmt.Errorf("adding %q: %w", name, err)
		}
	}
	return upper, debian.Clean(upper)
}

// lookup returns a finished image.
func (d debianImages) lookup(e cache.Entry) (v1.Image, bool, error) {
	path, ok := d.store.Lookup(e)
	if !ok {
		return nil, false, nil
	}
	image, err := openLayout(path)
	return image, err == nil, err
}

// ensure returns the image in an entry of the cache, with build to fill it.
func (d debianImages) ensure(
	ctx context.Context, e cache.Entry, build func(ctx context.Context, dir string) error,
) (v1.Image, error) {
	if image, ok, err := d.lookup(e); ok || err != nil {
		return image, err
	}
	var path string
	err := d.log.Step("building image "+e.Version, func() (err error) {
		path, err = d.store.Ensure(ctx, e, build)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("building image %q: %w", e.Version, err)
	}
	return openLayout(path)
}
