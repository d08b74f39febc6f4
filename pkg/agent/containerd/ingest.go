// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// layerIngest begins what containerd's own pulls call a layer that comes in (containerd core/remotes, MakeRefKey).
const layerIngest = "layer-"

// Ingest is a layer that is being pulled.
type Ingest struct {
	// Digest is the layer's.
	Digest string
	// Bytes is how many have come.
	Bytes int64
	// Since is when the first of them was waited for: longer ago than the pull, where an earlier one was broken off.
	Since time.Time
}

// Ingests are the layers that are being pulled, by whomever. What comes into the store in other ways is not among them.
func (c *Client) Ingests(ctx context.Context) ([]Ingest, error) {
	all, err := c.client.ContentStore().ListStatuses(ctx, "ref~=^"+layerIngest)
	if err != nil {
		return nil, fmt.Errorf("listing what is being pulled: %w", err)
	}
	var found []Ingest
	for _, s := range all {
		ref := strings.TrimPrefix(s.Ref, layerIngest)
		// A name may stand before the digest.
		if at := strings.LastIndexByte(ref, '@'); at >= 0 {
			ref = ref[at+1:]
		}
		found = append(found, Ingest{Digest: ref, Bytes: s.Offset, Since: s.StartedAt})
	}
	return found, nil
}

// Arrived tells how large content on the node is, and when it was whole; false when it is not there.
func (c *Client) Arrived(ctx context.Context, layer string) (bytes int64, at time.Time, ok bool, err error) {
	info, err := c.client.ContentStore().Info(ctx, digest.Digest(layer))
	if errdefs.IsNotFound(err) {
		return 0, time.Time{}, false, nil
	}
	if err != nil {
		return 0, time.Time{}, false, fmt.Errorf("looking for layer %q: %w", layer, err)
	}
	return info.Size, info.CreatedAt, true, nil
}
