// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// managed marks an image as one of the CRI's (containerd internal/cri/labels).
const managed = "io.cri-containerd.image"

// Load puts an image with one layer into containerd's store under a name, and unpacks it into the snapshotter. An image of that name
// is replaced.
func (c *Client) Load(ctx context.Context, name string, img v1.Image, snapshotter string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("loading image %q: %w", name, err)
		}
	}()
	// Until the image's record holds its content, the lease does.
	ctx, done, err := c.client.WithLease(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done(context.WithoutCancel(ctx))) }()
	target, err := c.write(ctx, img)
	if err != nil {
		return err
	}
	config, err := img.ConfigName()
	if err != nil {
		return err
	}
	record := images.Image{Name: name, Target: target, Labels: map[string]string{managed: "managed"}}
	byID := record
	byID.Name = config.String()
	// The CRI names an image by its ID too; it would do so itself, but only some time after it heard of the new image.
	for _, r := range []images.Image{record, byID} {
		if err := c.put(ctx, r); err != nil {
			return err
		}
	}
	return client.NewImageWithPlatform(c.client, record, platforms.Default()).Unpack(ctx, snapshotter)
}

func (c *Client) put(ctx context.Context, record images.Image) error {
	_, err := c.client.ImageService().Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		_, err = c.client.ImageService().Update(ctx, record)
	}
	return err
}

func (c *Client) write(ctx context.Context, img v1.Image) (ocispec.Descriptor, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	rawManifest, err := img.RawManifest()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	rawConfig, err := img.RawConfigFile()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	layers, err := img.Layers()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	config := descriptor(manifest.Config)
	references := map[string]string{"containerd.io/gc.ref.content.config": config.Digest.String()}
	for i, layer := range layers {
		blob, err := layer.Compressed()
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		d := descriptor(manifest.Layers[i])
		err = errors.Join(c.blob(ctx, d, blob), blob.Close())
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		references[fmt.Sprintf("containerd.io/gc.ref.content.l.%d", i)] = d.Digest.String()
	}
	if err := c.blob(ctx, config, bytes.NewReader(rawConfig)); err != nil {
		return ocispec.Descriptor{}, err
	}
	target := ocispec.Descriptor{
		MediaType: string(manifest.MediaType), Digest: digest.FromBytes(rawManifest), Size: int64(len(rawManifest)),
	}
	return target, c.blob(ctx, target, bytes.NewReader(rawManifest), content.WithLabels(references))
}

func (c *Client) blob(ctx context.Context, d ocispec.Descriptor, r io.Reader, opts ...content.Opt) error {
	return content.WriteBlob(ctx, c.client.ContentStore(), "cryopod-"+d.Digest.String(), r, d, opts...)
}

func descriptor(d v1.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size}
}

// Unload removes an image from containerd's store, by its name and its ID, and waits until its content is gone. One that is not
// there is no error.
func (c *Client) Unload(ctx context.Context, name string) error {
	store := c.client.ImageService()
	record, err := store.Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing image %q: %w", name, err)
	}
	// The name goes last: by it a later Unload finds what this one left.
	names := []string{name}
	if config, err := record.Config(ctx, c.client.ContentStore(), platforms.Default()); err == nil {
		names = []string{config.Digest.String(), name}
	}
	for _, n := range names {
		if err := store.Delete(ctx, n, images.SynchronousDelete()); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("removing image %q: %w", n, err)
		}
	}
	return nil
}

// Snapshotter returns the name of the snapshotter that a container's root file system is in.
func (c *Client) Snapshotter(ctx context.Context, containerID string) (string, error) {
	info, err := c.client.ContainerService().Get(ctx, containerID)
	if err != nil {
		return "", fmt.Errorf("reading container %q: %w", containerID, err)
	}
	return info.Snapshotter, nil
}
