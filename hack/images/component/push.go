// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Target says how a registry is reached. The zero value pushes without credentials, by plain HTTP to local addresses only.
type Target struct {
	// Keychain has the registry's credentials; nil means none.
	Keychain authn.Keychain
	// Insecure allows plain HTTP everywhere.
	Insecure bool
}

// Push pushes a built component under the tag and returns its name by digest: an image, or an index of images if it was built for
// several platforms.
func (t Target) Push(ctx context.Context, tag string, img *Image) (string, error) {
	var options []name.Option
	if t.Insecure {
		options = append(options, name.Insecure)
	}
	to, err := name.NewTag(tag, options...)
	if err != nil {
		return "", fmt.Errorf("parsing image name %q: %w", tag, err)
	}
	remoteOptions := []remote.Option{remote.WithContext(ctx)}
	if t.Keychain != nil {
		remoteOptions = append(remoteOptions, remote.WithAuthFromKeychain(t.Keychain))
	}
	digest, err := img.push(to, remoteOptions)
	if err != nil {
		return "", fmt.Errorf("pushing %q: %w", tag, err)
	}
	return to.Context().Digest(digest.String()).Name(), nil
}

func (i *Image) push(to name.Tag, options []remote.Option) (v1.Hash, error) {
	if len(i.images) == 1 {
		if err := remote.Write(to, i.images[0], options...); err != nil {
			return v1.Hash{}, err
		}
		return i.images[0].Digest()
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for n, img := range i.images {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &i.platforms[n]}})
	}
	if err := remote.WriteIndex(to, index, options...); err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}
