// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/image"
)

// Push pushes an image to the cluster's registry and returns its name in the cluster. The tag is made of its digest, so that a
// changed image is a changed name, and an unchanged one restarts nothing.
func Push(ctx context.Context, c *cluster.Cluster, img v1.Image, name string) (string, error) {
	digest, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("hashing image %q: %w", name, err)
	}
	path := fmt.Sprintf("/%s/%s:%s", project, name, digest.Hex[:12])
	if err := image.Push(ctx, img, c.RegistryHostAddress()+path); err != nil {
		return "", err
	}
	return c.RegistryName() + path, nil
}
