// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"fmt"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// OnHost is how the host reaches an image of the cluster's registry.
func (b *Bed) OnHost(ref string) string {
	return b.Cluster.RegistryHostAddress() + strings.TrimPrefix(ref, b.Cluster.RegistryName())
}

// PullImage has the node have the image, unpacked, as a kubelet's pull leaves it.
func (b *Bed) PullImage(ctx context.Context, node *cluster.Node, ref string) error {
	if out, err := node.Exec(ctx, "ctr", "-n", "k8s.io", "images", "pull", "--hosts-dir", "/etc/containerd/certs.d", ref); err != nil {
		return fmt.Errorf("pulling image %q to node %q: %w: %s", ref, node.Name(), err, out)
	}
	return nil
}

// Knows returns an error unless the node's profile tells of the image, which is given by its digest or by a name that ends with it.
func (b *Bed) Knows(ctx context.Context, node, image string) error {
	digest := image[strings.LastIndexByte(image, '@')+1:]
	id, ok := imageindex.ImageOf(digest)
	if !ok {
		return fmt.Errorf("looking for an image on node %q: %q has no digest", node, image)
	}
	var profile v1alpha1.NodeProfile
	if err := b.Client.Get(ctx, client.ObjectKey{Name: node}, &profile); err != nil {
		return fmt.Errorf("reading node profile %q: %w", node, err)
	}
	index, err := imageindex.Unpack(profile.Status.ImageIndex)
	if err != nil {
		return fmt.Errorf("reading the images of node profile %q: %w", node, err)
	}
	if _, has := index.Images[id]; !has {
		return fmt.Errorf("node profile %q has %s, and no image %s among them", node, index, digest)
	}
	return nil
}
