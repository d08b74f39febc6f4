// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	criu "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cryopod/cryopod/pkg/imageindex"
)

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

// ListImages returns the images on the node. One whose content is not whole on the node is left out. An image that is no checkpoint has its
// repository as a name too: by it another version is found, which has most of the same layers.
func (c *Client) ListImages(ctx context.Context) ([]imageindex.Image, error) {
	all, err := c.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	records := map[digest.Digest][]images.Image{}
	var order []digest.Digest
	for _, i := range all {
		if records[i.Target.Digest] == nil {
			order = append(order, i.Target.Digest)
		}
		records[i.Target.Digest] = append(records[i.Target.Digest], i)
	}
	var found []imageindex.Image
	for _, d := range order {
		layers, ok := c.layers(ctx, records[d][0])
		if !ok {
			continue
		}
		var names []string
		checkpoint := c.isCheckpoint(ctx, records[d][0].Target)
		for _, i := range records[d] {
			names = append(names, namesOf(i.Name, !checkpoint)...)
		}
		slices.Sort(names)
		found = append(found, imageindex.Image{Digest: d.String(), Names: slices.Compact(names), Layers: layers})
	}
	return found, nil
}

// namesOf are what an image with that name in containerd's store is known by, beside its digest: the name, if it has a tag, and its repository.
func namesOf(name string, repository bool) (names []string) {
	// The kubelet's own names are digests of configurations.
	if strings.HasPrefix(name, "sha256:") {
		return nil
	}
	repo, digested, _ := strings.Cut(name, "@")
	if colon := strings.LastIndexByte(repo, ':'); colon > strings.LastIndexByte(repo, '/') {
		if digested == "" {
			names = append(names, repo)
		}
		repo = repo[:colon]
	}
	if repository {
		names = append(names, repo)
	}
	return names
}

// layers are those of an image; false for one that can't be read.
func (c *Client) layers(ctx context.Context, i images.Image) ([]imageindex.Layer, bool) {
	manifest, err := images.Manifest(ctx, c.client.ContentStore(), i.Target, platforms.Default())
	if err != nil {
		return nil, false
	}
	var layers []imageindex.Layer
	for _, l := range manifest.Layers {
		layers = append(layers, imageindex.Layer{Digest: l.Digest.String(), Bytes: l.Size})
	}
	return layers, true
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
