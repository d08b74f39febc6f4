// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
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
