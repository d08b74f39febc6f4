// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/cache"
)

// Suite is the Debian release of every root file system here: the first one with a CRIU (4.2) that works on kernels
// from 6.16 on.
const Suite = "forky"

// bootstrapScript is a debootstrap script that also installs Suite. Older debootstraps have none of that name.
const bootstrapScript = "/usr/share/debootstrap/scripts/sid"

// Bootstrap installs a minimal Debian with the given packages into dir, which is empty or absent, and cleans it.
func Bootstrap(ctx context.Context, dir string, packages ...string) error {
	if _, err := exec.LookPath("debootstrap"); err != nil {
		if err := Install(ctx, "debootstrap"); err != nil {
			return err
		}
	}
	mirror, err := Mirror(ctx)
	if err != nil {
		return err
	}
	args := []string{"--variant=minbase"}
	if len(packages) > 0 {
		args = append(args, "--include="+strings.Join(packages, ","))
	}
	args = append(args, Suite, dir, mirror, bootstrapScript)
	if _, err := Run(Isolated(ctx, "debootstrap", args...)); err != nil {
		return fmt.Errorf("installing Debian %s: %w", Suite, err)
	}
	if err := Clean(dir); err != nil {
		return err
	}
	// These two belong to one machine each.
	for _, name := range []string{"etc/machine-id", "etc/resolv.conf"} {
		if err := writeEmpty(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// Clean removes documentation and what apt, dpkg and debootstrap keep for later installations or write as logs, and so
// also the mirror's address. The folders of manual pages stay: packages' scripts make links in them.
func Clean(root string) error {
	for _, pattern := range []string{
		"var/cache/apt/*", "var/cache/debconf/*-old", "var/cache/ldconfig/*", "var/lib/apt/lists/*", "var/lib/dpkg/*-old",
		"var/log/*.log", "var/log/apt/*", "debootstrap", "tmp/*", "run/*", "etc/apt/sources.list", "etc/apt/sources.list.d/*",
		"usr/share/doc/*", "usr/share/man/*/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/lintian/*",
	} {
		matches, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return fmt.Errorf("expanding %q: %w", pattern, err)
		}
		for _, match := range matches {
			if err := cache.Remove(match); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeEmpty(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("emptying %q: %w", path, err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return fmt.Errorf("emptying %q: %w", path, err)
	}
	return nil
}
