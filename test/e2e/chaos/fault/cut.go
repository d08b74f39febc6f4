// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
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
	asking, cancel := context.WithTimeout(ctx, noAnswer)
	defer cancel()
	if c, err := node.Dial(asking, t.Bed.Cluster.APIAddress()); err == nil {
		_ = c.Close()
		return nil, "", errors.Join(fmt.Errorf("%s, cut off, still reaches the API server", node.Name()), node.Reconnect(ctx))
	}
	return node.Reconnect, fmt.Sprintf("cut %s off the network", node.Name()), nil
}

// freezeNode stops all processes of the source at once, as a machine does that is paused for a live migration, or swaps.
func freezeNode(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
	node, err := t.source()
	if err != nil {
		return nil, "", err
	}
	if err := node.Freeze(ctx); err != nil {
		return nil, "", err
	}
	asking, cancel := context.WithTimeout(ctx, noAnswer)
	defer cancel()
	if _, err := node.Status(asking); err == nil {
		return nil, "", errors.Join(fmt.Errorf("%s, frozen, still answers", node.Name()), node.Thaw(ctx))
	}
	return node.Thaw, fmt.Sprintf("froze all processes of %s", node.Name()), nil
}

// restartKubelet has the source's kubelet end and begin anew, as an upgrade does.
func restartKubelet(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
	node, err := t.source()
	if err != nil {
		return nil, "", err
	}
	before, err := processes(ctx, "kubelet", node)
	if err != nil {
		return nil, "", err
	}
	for _, p := range before {
		if _, err := node.Exec(ctx, "kill", fmt.Sprint(p.pid)); err != nil {
			return nil, "", fmt.Errorf("ending process %s: %w", p, err)
		}
	}
	// It gets a moment to end by itself.
	if _, err := node.Exec(ctx, "sh", "-c", "sleep 1"); err != nil {
		return nil, "", err
	}
	if err := kill(ctx, before); err != nil {
		return nil, "", err
	}
	if len(before) == 0 {
		return nil, "no kubelet to restart on " + node.Name(), nil
	}
	return nil, fmt.Sprintf("restarted kubelet %v", before), nil
}
