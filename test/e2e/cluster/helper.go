// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
)

const helperName = "cluster-machine"

// buildHelper builds the program that stays when the caller has ended. A cluster has its own copy: it may be started
// again long after the sources have changed.
func buildHelper(ctx context.Context, dir string) error {
	root, err := source.Root()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("creating %q: %w", dir, err)
	}
	cmd := exec.CommandContext(ctx, source.Go(), "build", "-trimpath", "-ldflags=-s -w", "-o", dir+string(filepath.Separator),
		"./test/e2e/cluster/cmd/"+helperName)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the cluster's helper: %w: %s", err, out)
	}
	return nil
}
