// SPDX-License-Identifier: Apache-2.0

// Package image builds the OCI images that tests run, from Debian packages and from Go programs, without a container
// daemon and without pulling anything.
//
// All Debian images share one base layer; what each one installs on top is one layer more. They are built when they are
// first asked for and kept in the cache as OCI layouts.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/cache"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/progress"
)

// Names of the images that Build knows.
const (
	// Pause holds a pod sandbox's namespaces.
	Pause = "pause"
	// DebianBase has bash, coreutils and procps.
	DebianBase = "debian-base"
	// Python has python3 and numpy.
	Python = "python"
	// Redis has redis-server and redis-cli.
	Redis = "redis"
	// Nginx serves port 80 with workers of the user www-data.
	Nginx = "nginx"
	// Java has a headless JRE, and a javac that compiles for it (ecj).
	Java = "java"
	// NodeJS has node.
	NodeJS = "nodejs"
)

// ErrUnknown says that there is no image of a name.
var ErrUnknown = errors.New("no such image")

// Names lists the images that Build knows.
func Names() []string {
	names := []string{Pause, DebianBase}
	for name := range recipes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Builder builds images. The zero value is useful.
type Builder struct {
	// CacheDir is where finished images are kept; cache.Dir() when empty.
	CacheDir string
	// Progress gets a line when a step begins and ends. Nil means silence.
	Progress io.Writer
}

// Build is Builder.Build with the defaults.
func Build(ctx context.Context, name string) (v1.Image, error) {
	return Builder{}.Build(ctx, name)
}

// GoBinary is Builder.GoBinary with the defaults.
func GoBinary(ctx context.Context, pkgPath, name string) (v1.Image, error) {
	return Builder{}.GoBinary(ctx, pkgPath, name)
}

// Build returns the image of that name, building what is not in the cache. It needs to be root unless all is there.
func (b Builder) Build(ctx context.Context, name string) (v1.Image, error) {
	if name == Pause {
		return b.GoBinary(ctx, pausePackage, Pause)
	}
	store, err := b.store()
	if err != nil {
		return nil, err
	}
	debian := debianImages{store: store, log: progress.New(b.Progress)}
	if name == DebianBase {
		return debian.base(ctx)
	}
	recipe, ok := recipes[name]
	if !ok {
		return nil, fmt.Errorf("building image %q: %w (there are %s)", name, ErrUnknown, strings.Join(Names(), ", "))
	}
	return debian.onTop(ctx, name, recipe)
}

func (b Builder) store() (*cache.Cache, error) {
	dir := b.CacheDir
	if dir == "" {
		var err error
		if dir, err = cache.Dir(); err != nil {
			return nil, err
		}
	}
	return cache.Open(dir), nil
}
