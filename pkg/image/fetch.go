// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"

	criu "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Blob is a layer in a registry.
type Blob struct {
	// MediaType and Digest are what the manifest says.
	MediaType, Digest string
	// Bytes is its size.
	Bytes int64
}

// Layers are the layers of a checkpoint image, by its tag or digest. An image that is none, or is not there, is an error.
func (p *Pusher) Layers(ctx context.Context, ref string) ([]Blob, error) {
	_, manifest, err := p.manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	if manifest == nil || manifest.Annotations[criu.CheckpointAnnotationName] == "" {
		return nil, fmt.Errorf("reading the manifest of %q: it is not there, or not of a checkpoint image", ref)
	}
	var layers []Blob
	for i := range manifest.Layers {
		l := &manifest.Layers[i]
		layers = append(layers, Blob{MediaType: string(l.MediaType), Digest: l.Digest.String(), Bytes: l.Size})
	}
	return layers, nil
}

// Open reads a layer of the image that ref names, as it is stored. Reading fails in the end when the content is not that of the digest. It stops when
// ctx ends.
func (p *Pusher) Open(ctx context.Context, ref, digest string) (io.ReadCloser, error) {
	r, err := name.ParseReference(ref, append(p.nameOptions(ref), name.StrictValidation)...)
	if err != nil {
		return nil, fmt.Errorf("parsing image reference %q: %w", ref, err)
	}
	layer, err := remote.Layer(r.Context().Digest(digest), p.remoteOptions(ctx)...)
	if err != nil {
		return nil, fmt.Errorf("opening layer %q of %q: %w", digest, ref, explain(err))
	}
	stream, err := layer.Compressed()
	if err != nil {
		return nil, fmt.Errorf("opening layer %q of %q: %w", digest, ref, explain(err))
	}
	return stream, nil
}
