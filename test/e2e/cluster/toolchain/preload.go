// SPDX-License-Identifier: Apache-2.0

package toolchain

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
)

//go:embed preload/rlimit.c
var preloadSource string

//go:embed preload/criu.sh
var preloadWrapper string

// installPreload makes the criu in root start with the library that answers for CAP_SYS_RESOURCE. runc finds criu by its
// name only, so the program moves aside for a wrapper.
func installPreload(ctx context.Context, root string) error {
	criu := filepath.Join(root, "usr", "sbin", "criu")
	moved := filepath.Join(root, criuProgram)
	if err := os.MkdirAll(filepath.Dir(moved), 0o755); err != nil {
		return fmt.Errorf("making folder for criu: %w", err)
	}
	if err := compilePreload(ctx, filepath.Join(root, preloadLibrary)); err != nil {
		return err
	}
	if err := os.Rename(criu, moved); err != nil {
		return fmt.Errorf("moving criu aside: %w", err)
	}
	if err := os.WriteFile(criu, []byte(preloadWrapper), 0o755); err != nil {
		return fmt.Errorf("writing criu's wrapper: %w", err)
	}
	return nil
}

func compilePreload(ctx context.Context, library string) error {
	cmd := exec.CommandContext(ctx, "gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-x", "c", "-o", library, "-")
	cmd.Stdin = strings.NewReader(preloadSource)
	if _, err := debian.Run(cmd); err != nil {
		return fmt.Errorf("compiling criu's preloaded library: %w", err)
	}
	return nil
}
