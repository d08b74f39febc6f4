// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// references are the labels by which content keeps snapshots and other content from being collected.
const references = "containerd.io/gc.ref."

// Repoint makes the name of a checkpoint image stand for a base image, which is given by its ID, and removes the checkpoint from the
// node under its other names. It reports false, and does nothing, when the name does not stand for a checkpoint (any more).
//
// The name comes to stand for a twin of the base image with an ID of its own. By the ID the kubelet remembers which names, with which
// credentials, it pulled an image under (KEP-2535), and the base image's ID under a name that it never pulled it by would make it
// pull that name again: the checkpoint.
func (c *Client) Repoint(ctx context.Context, name, baseID string) (_ bool, err error) {
	store := c.client.ImageService()
	record, err := store.Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading image %q: %w", name, err)
	}
	checkpoint := record.Target
	if !c.isCheckpoint(ctx, checkpoint) {
		return false, nil
	}
	ctx, done, err := c.client.WithLease(ctx)
	if err != nil {
		return false, fmt.Errorf("repointing image %q: %w", name, err)
	}
	defer func() { err = errors.Join(err, done(context.WithoutCancel(ctx))) }()
	twin, id, err := c.twin(ctx, baseID)
	if err != nil {
		return false, fmt.Errorf("repointing image %q: %w", name, err)
	}
	labels := map[string]string{managed: "managed"}
	// First the ID, which the CRI resolves the name to; then the name, since a crash of the container would restore it again as long
	// as it stands for the checkpoint.
	for _, r := range []images.Image{{Name: id.String(), Target: twin, Labels: labels}, {Name: name, Target: twin, Labels: labels}} {
		if err := c.put(ctx, r); err != nil {
			return false, fmt.Errorf("repointing image %q: %w", name, err)
		}
	}
	others, err := store.List(ctx, "target.digest=="+checkpoint.Digest.String())
	if err != nil {
		return true, fmt.Errorf("listing the other names of image %q: %w", name, err)
	}
	for _, other := range others {
		if err := store.Delete(ctx, other.Name, images.SynchronousDelete()); err != nil && !errdefs.IsNotFound(err) {
			return true, fmt.Errorf("removing checkpoint image %q: %w", other.Name, err)
		}
	}
	return true, nil
}

// twin writes a manifest and a configuration that differ from an image's in nothing but their digests.
func (c *Client) twin(ctx context.Context, baseID string) (target ocispec.Descriptor, id digest.Digest, err error) {
	store := c.client.ContentStore()
	base, err := c.client.ImageService().Get(ctx, baseID)
	if err != nil {
		return target, "", fmt.Errorf("reading base image %q: %w", baseID, err)
	}
	manifest, err := images.Manifest(ctx, store, base.Target, platforms.Default())
	if err != nil {
		return target, "", fmt.Errorf("reading the manifest of base image %q: %w", baseID, err)
	}
	raw, err := content.ReadBlob(ctx, store, manifest.Config)
	if err != nil {
		return target, "", fmt.Errorf("reading the configuration of base image %q: %w", baseID, err)
	}
	if raw, err = withAuthor(raw); err != nil {
		return target, "", fmt.Errorf("changing the configuration of base image %q: %w", baseID, err)
	}
	info, err := store.Info(ctx, manifest.Config.Digest)
	if err != nil {
		return target, "", fmt.Errorf("reading the configuration of base image %q: %w", baseID, err)
	}
	maps.DeleteFunc(info.Labels, func(key, _ string) bool { return !strings.HasPrefix(key, references) })
	config := ocispec.Descriptor{MediaType: manifest.Config.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := c.blob(ctx, config, bytes.NewReader(raw), content.WithLabels(info.Labels)); err != nil {
		return target, "", err
	}
	manifest.Config = config
	if raw, err = json.Marshal(manifest); err != nil {
		return target, "", fmt.Errorf("writing the manifest of a twin of %q: %w", baseID, err)
	}
	labels := map[string]string{references + "content.config": config.Digest.String()}
	for i, layer := range manifest.Layers {
		labels[fmt.Sprintf("%scontent.l.%d", references, i)] = layer.Digest.String()
	}
	target = ocispec.Descriptor{MediaType: manifest.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if target.MediaType == "" {
		target.MediaType = ocispec.MediaTypeImageManifest
	}
	return target, config.Digest, c.blob(ctx, target, bytes.NewReader(raw), content.WithLabels(labels))
}

// withAuthor changes an image's configuration in what no runtime reads.
func withAuthor(config []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, err
	}
	if fields == nil {
		return nil, errors.New("it is null")
	}
	fields["author"] = json.RawMessage(`"cryopod: cold start of a restored container"`)
	return json.Marshal(fields)
}
