// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"fmt"
	"strings"

	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// Throttle lets so many MiB a second through to a node, all connections together; what the node sends is not bounded. 0 takes the bound off.
func (b *Bed) Throttle(ctx context.Context, node *cluster.Node, mebibytesPerSecond int) error {
	argv := []string{"tc", "qdisc", "del", "dev", node.Port(), "root"}
	if mebibytesPerSecond > 0 {
		// The queue is as long as a tenth of a second, the bucket as what comes at the next tick of a slow clock.
		argv = []string{"tc", "qdisc", "replace", "dev", node.Port(), "root", "tbf", "rate", fmt.Sprintf("%dbit", mebibytesPerSecond<<20*8),
			"burst", "1mb", "latency", "100ms"}
	}
	cmd, err := b.Cluster.Command(ctx, "control-plane", argv...)
	if err != nil {
		return err
	}
	out, err := cmd.CombinedOutput()
	if err != nil && (mebibytesPerSecond > 0 || !strings.Contains(string(out), "handle of zero")) {
		return fmt.Errorf("bounding the line of %s: %w: %s", node.Name(), err, out)
	}
	return nil
}
