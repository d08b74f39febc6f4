// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Push writes img to a plain HTTP registry under ref, "127.0.0.1:5000/redis:test" say. An image that is there already
// is not written again, nor is a layer.
func Push(ctx context.Context, img v1.Image, ref string) error {
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		return fmt.Errorf("parsing image name %q: %w", ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return fmt.Errorf("hashing image for %q: %w", ref, err)
	}
	if there, err := remote.Head(tag, remote.WithContext(ctx)); err == nil && there.Digest == digest {
		return nil
	}
	if err := remote.Write(tag, img, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("pushing %q: %w", ref, err)
	}
	return nil
}

// Delete removes the manifest of ref, by tag or digest, from a plain HTTP registry: no name of it can be pulled any more.
func Delete(ctx context.Context, ref string) error {
	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return fmt.Errorf("parsing image name %q: %w", ref, err)
	}
	there, err := remote.Head(parsed, remote.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("finding image %q: %w", ref, err)
	}
	if err := remote.Delete(parsed.Context().Digest(there.Digest.String()), remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("deleting image %q: %w", ref, err)
	}
	return nil
}

// Variant writes a copy of the image at from to a plain HTTP registry under to, with a label that tells them apart: the same files under
// another digest.
func Variant(ctx context.Context, from, to, label string) error {
	source, err := name.ParseReference(from, name.Insecure)
	if err != nil {
		return fmt.Errorf("parsing image name %q: %w", from, err)
	}
	img, err := remote.Image(source, remote.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("reading image %q: %w", from, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return fmt.Errorf("reading the configuration of image %q: %w", from, err)
	}
	config = config.DeepCopy()
	config.Config.Labels = map[string]string{"variant": label}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return fmt.Errorf("labelling image %q: %w", from, err)
	}
	return Push(ctx, img, to)
}
