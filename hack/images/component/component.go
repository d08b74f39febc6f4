// SPDX-License-Identifier: Apache-2.0

// Package component builds the images of Cryopod's components: one static program on nothing, the same bytes for the same
// source, toolchain and certificates.
package component

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Component is one of Cryopod's programs.
type Component struct {
	// Name is the name of the program, of its folder in cmd/ and of its image.
	Name string
	// User is the user ID that the image asks for.
	User string
}

const (
	root    = "0"
	nonroot = "65532"
)

// All are the components. The agent has to be root to reach the sockets and files of its node that it works with.
var All = []Component{{Name: "webhook", User: nonroot}, {Name: "scheduler", User: nonroot}, {Name: "agent", User: root}}

// accounts names the users, for programs that look themselves up.
const accounts = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"

// HostPlatform is Linux on this machine's architecture.
func HostPlatform() string { return "linux/" + runtime.GOARCH }

// Image is a built component: one image for each platform.
type Image struct {
	platforms []v1.Platform
	images    []v1.Image
}

// Build builds the component for each platform. It is to be called in the root of the module. certificates is a PEM bundle of the
// authorities to trust.
func Build(ctx context.Context, c Component, certificates []byte, platforms []v1.Platform) (*Image, error) {
	if len(platforms) == 0 {
		return nil, errors.New("building for no platform")
	}
	built := &Image{platforms: platforms}
	for _, p := range platforms {
		program, err := compile(ctx, c, p)
		if err != nil {
			return nil, fmt.Errorf("building component %q for %s: %w", c.Name, p, err)
		}
		img, err := assemble(c, p, program, certificates)
		if err != nil {
			return nil, fmt.Errorf("packing component %q for %s: %w", c.Name, p, err)
		}
		built.images = append(built.images, img)
	}
	return built, nil
}

func compile(ctx context.Context, c Component, p v1.Platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "cryopod-images-")
	if err != nil {
		return nil, fmt.Errorf("making build folder: %w", err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, c.Name)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", program, "./cmd/"+c.Name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Architecture, "GOWORK=off", "GOFLAGS=-mod=readonly")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("running go build: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.ReadFile(program)
}

func assemble(c Component, p v1.Platform, program, certificates []byte) (v1.Image, error) {
	content, err := layer([]file{
		{name: "etc/", mode: 0o755},
		{name: "etc/passwd", mode: 0o644, content: []byte(accounts)},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: certificates},
		{name: "tmp/", mode: 0o1777},
		{name: c.Name, mode: 0o755, content: program},
	})
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, l); err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = p.OS, p.Architecture, p.Variant
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	config.Config = v1.Config{
		Entrypoint: []string{"/" + c.Name},
		User:       c.User,
		Env:        []string{"PATH=/", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":    "cryopod-" + c.Name,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(img, config)
}

type file struct {
	name    string
	mode    int64
	content []byte
}

func layer(files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: time.Unix(0, 0)}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("writing %q: %w", f.name, err)
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, fmt.Errorf("writing %q: %w", f.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("ending layer: %w", err)
	}
	return b.Bytes(), nil
}
