// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
)

// cutNode takes the source off the network. Its processes go on.
func cutNode(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
	node, err := t.source()
	if err != nil {
		return nil, "", err
	}
	if err := node.CutOff(ctx); err != nil {
		return nil, "", err
	}
	return node.Reconnect, fmt.Sprintf("cut %s off the network", node.Name()), nil
}

// stopRegistry ends the registry, whose content stays.
func stopRegistry(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
	if err := t.Bed.Cluster.StopRegistry(ctx); err != nil {
		return nil, "", err
	}
	return t.Bed.Cluster.StartRegistry, "stopped the registry", nil
}
