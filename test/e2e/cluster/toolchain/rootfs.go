// SPDX-License-Identifier: Apache-2.0

package toolchain

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/cache"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/progress"
)

// rootRecipe changes whenever the steps below do, so that root file systems made by the older ones are not used.
const rootRecipe = "1"

// nodePackages are what a node and the control plane need beyond a minimal Debian.
var nodePackages = []string{
	"ca-certificates", "conntrack", "containernetworking-plugins", "criu", "crun", "etcd-server", "ethtool", "iproute2",
	"iptables", "kmod", "mount", "nftables", "procps", "runc", "socat", "util-linux",
}

// nodeRoot is a recipe of the root file system of a node.
type nodeRoot struct {
	packages []string
	// preload says that its CRIU shall do without CAP_SYS_RESOURCE.
	preload bool
}

func (r nodeRoot) entry() cache.Entry {
	parts := []string{rootRecipe, strings.Join(r.packages, ","), strconv.FormatBool(r.preload)}
	if r.preload {
		parts = append(parts, preloadSource, preloadWrapper)
	}
	return cache.Entry{Kind: "rootfs", Version: debian.Suite, Key: cache.NewKey(parts...)}
}

func (r nodeRoot) ensure(ctx context.Context, store *cache.Cache, log *progress.Log) (string, error) {
	return ensureEntry(ctx, store, log, r.entry(), func(ctx context.Context, dir string) error {
		if err := debian.Bootstrap(ctx, dir, r.packages...); err != nil {
			return err
		}
		if !r.preload {
			return nil
		}
		return installPreload(ctx, dir)
	})
}

// lacksSysResource tells whether this process, and so whatever it starts, is without CAP_SYS_RESOURCE.
func lacksSysResource() (bool, error) {
	set, err := effectiveCapabilities(os.DirFS("/"))
	if err != nil {
		return false, err
	}
	return set&(1<<capSysResource) == 0, nil
}

// preloadLibrary is where the library is in a node's root file system, and criuProgram the real CRIU beside it.
var (
	preloadLibrary = filepath.Join("usr", "lib", "cryopod", "criu-rlimit.so")
	criuProgram    = filepath.Join("usr", "lib", "cryopod", "criu")
)
