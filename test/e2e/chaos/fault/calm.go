// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/install"
)

// Reset ends what faults of a run that was broken off may have left, whichever they were.
func Reset(ctx context.Context, b *bed.Bed) error {
	errs := []error{signalAPIServer(ctx, b.Cluster, "CONT"), b.Cluster.StartRegistry(ctx)}
	t := &Target{Bed: b}
	for _, table := range []string{registryTable, apiNodeTable, apiAgentsTable} {
		errs = append(errs, nft(ctx, t.onMachine(controlPlane), "destroy table ip "+table+"\n"))
	}
	for _, n := range b.Cluster.Nodes() {
		if !n.Running() {
			continue
		}
		errs = append(errs, n.Thaw(ctx), n.Reconnect(ctx), freeDisk(ctx, n), seeDisk(ctx, b, n),
			nft(ctx, t.onMachine(n.Name()), "destroy table ip "+probeTable+"\n"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("ending the faults of a former run: %w", err)
	}
	return nil
}

// Calm returns when every part of Cryopod runs and every node can save and restore, as it has to be some time after the last fault was ended.
// What the kubelet would only start again after a while, because it was killed often, is replaced.
func Calm(ctx context.Context, b *bed.Bed) error {
	return bed.Until(ctx, func(ctx context.Context) error {
		for _, name := range components {
			if err := replaceStuck(ctx, b, name); err != nil {
				return err
			}
		}
		for _, n := range b.Cluster.Nodes() {
			if ready, err := b.Ready(ctx, n.Name()); err != nil || !ready && n.Running() {
				return errors.Join(fmt.Errorf("node %q is not ready", n.Name()), err)
			}
		}
		return (install.Installer{Cluster: b.Cluster, Client: b.Client}).Ready(ctx)
	})
}
