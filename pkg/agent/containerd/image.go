// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	criu "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// shortDigest is how many hexadecimal digits of a layer's digest a NodeProfile holds.
const shortDigest = 12

// ImageTopics selects the events that change the set of images on the node.
const ImageTopics = `topic~="^/images/"`

// ImageConfig returns the OCI configuration of the image that a container was made from; for a restored container, that is its base
// image.
func (c *Client) ImageConfig(ctx context.Context, containerID string) ([]byte, error) {
	answer, err := c.Runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: containerID})
	if err != nil {
		return nil, fmt.Errorf("reading the status of container %q: %w", containerID, err)
	}
	id := answer.GetStatus().GetImageId()
	config, err := digest.Parse(id)
	if err != nil {
		return nil, fmt.Errorf("reading the image of container %q: image ID %q: %w", containerID, id, err)
	}
	raw, err := content.ReadBlob(ctx, c.client.ContentStore(), ocispec.Descriptor{Digest: config})
	if err != nil {
		return nil, fmt.Errorf("reading image configuration %q: %w", id, err)
	}
	return raw, nil
}

// ListImages returns the images on the node that are known by digest, checkpoint images aside. One whose content is not whole on
// the node is left out.
func (c *Client) ListImages(ctx context.Context) ([]v1alpha1.NodeImage, error) {
	all, err := c.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	described := map[digest.Digest]*v1alpha1.NodeImage{}
	var found []v1alpha1.NodeImage
	for _, i := range all {
		if !strings.Contains(i.Name, "@sha256:") {
			continue
		}
		d, known := described[i.Target.Digest]
		if !known {
			d = c.describe(ctx, i)
			described[i.Target.Digest] = d
		}
		if d != nil {
			found = append(found, v1alpha1.NodeImage{Name: i.Name, Bytes: d.Bytes, Layers: d.Layers})
		}
	}
	return found, nil
}

// describe returns size and layers of an image; nil for a checkpoint, and for one that can't be read.
func (c *Client) describe(ctx context.Context, i images.Image) *v1alpha1.NodeImage {
	store := c.client.ContentStore()
	if c.isCheckpoint(ctx, i.Target) {
		return nil
	}
	manifest, err := images.Manifest(ctx, store, i.Target, platforms.Default())
	if err != nil {
		return nil
	}
	d := &v1alpha1.NodeImage{Bytes: manifest.Config.Size}
	for _, layer := range manifest.Layers {
		d.Bytes += layer.Size
		hex := layer.Digest.Encoded()
		d.Layers = append(d.Layers, hex[:min(shortDigest, len(hex))])
	}
	return d
}

// isCheckpoint reports what containerd itself would: whether the blob that the name resolves to has the annotation.
func (c *Client) isCheckpoint(ctx context.Context, target ocispec.Descriptor) bool {
	raw, err := content.ReadBlob(ctx, c.client.ContentStore(), target)
	if err != nil {
		return false
	}
	var blob struct {
		Annotations map[string]string `json:"annotations"`
	}
	return json.Unmarshal(raw, &blob) == nil && blob.Annotations[criu.CheckpointAnnotationName] != ""
}
