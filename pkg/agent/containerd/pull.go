// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cryopod/cryopod/pkg/image"
)

// HasImage reports whether the node has the image of a name: what the kubelet asks before it pulls.
func (c *Client) HasImage(ctx context.Context, name string) (bool, error) {
	answer, err := c.Images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
	if err != nil {
		return false, fmt.Errorf("looking for image %q: %w", name, err)
	}
	return answer.GetImage() != nil, nil
}

// Keep keeps what is brought into the store by the context that it returns for that long, though no image has it. Nobody has to end it.
func (c *Client) Keep(ctx context.Context, d time.Duration) (context.Context, error) {
	lease, err := c.client.LeasesService().Create(ctx, leases.WithRandomID(), leases.WithExpiration(d))
	if err != nil {
		return nil, fmt.Errorf("making a lease: %w", err)
	}
	return leases.WithLease(ctx, lease.ID), nil
}

// Ingest brings a layer into the store, as a pull of containerd's own would, but makes no image of it. It tells how many bytes came: none when
// the layer is there, or being pulled by somebody else. When it is broken off, what came stays for the next pull, which goes on from there.
func (c *Client) Ingest(ctx context.Context, layer image.Blob, open func(context.Context) (io.ReadCloser, error)) (bytes int64, err error) {
	target := ocispec.Descriptor{MediaType: layer.MediaType, Digest: digest.Digest(layer.Digest), Size: layer.Bytes}
	// The store waits for one who pulls the same layer, in pauses of seconds in the end; this doesn't.
	w, err := c.client.ContentStore().Writer(ctx, content.WithRef(layerIngest+layer.Digest), content.WithDescriptor(target))
	if errdefs.IsAlreadyExists(err) || errdefs.IsUnavailable(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("bringing in layer %q: %w", layer.Digest, err)
	}
	defer func() { _ = w.Close() }()
	r, err := open(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }()
	counted := &counter{r: r}
	if err := content.Copy(ctx, w, counted, target.Size, target.Digest); err != nil {
		return counted.bytes, fmt.Errorf("bringing in layer %q: %w", layer.Digest, err)
	}
	return counted.bytes, nil
}

// counter counts what is read.
type counter struct {
	r     io.Reader
	bytes int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.bytes += int64(n)
	return n, err
}
