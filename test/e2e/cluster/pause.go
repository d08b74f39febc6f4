// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// pauseImage is the image of the first container of every pod.
var pauseImage = registryName + "/cryopod/pause:1"

// pushPause makes the pause image of the program at path and pushes it to the registry.
func pushPause(ctx context.Context, program, registryHostAddress string) error {
	img, err := pause(program)
	if err != nil {
		return err
	}
	target := strings.Replace(pauseImage, registryName, registryHostAddress, 1)
	ref, err := name.NewTag(target, name.Insecure)
	if err != nil {
		return fmt.Errorf("naming the pause image: %w", err)
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("pushing the pause image: %w", err)
	}
	return nil
}

func pause(program string) (v1.Image, error) {
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("reading the pause program: %w", err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	header := &tar.Header{Name: "pause", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(data))}
	if err := w.WriteHeader(header); err != nil {
		return nil, fmt.Errorf("packing the pause program: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return nil, fmt.Errorf("packing the pause program: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("packing the pause program: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		return nil, fmt.Errorf("making the pause image: %w", err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("making the pause image: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("making the pause image: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Entrypoint = []string{"/pause"}
	config.Config.User = "65535:65535"
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return nil, fmt.Errorf("making the pause image: %w", err)
	}
	return img, nil
}
