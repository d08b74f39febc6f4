// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// archives is where the kubelet has containerd put the archives.
const archives = "/var/lib/kubelet/checkpoints"

// fillDisk leaves between nothing and 15 MiB on the file system that the source's archives are written to: those that are larger break off in
// the middle. It is a small file system of its own, mounted for the kubelet and containerd over the real one: the machine's disk is not
// touched, and the agent, whose mounts are its own, does not see beforehand that there is no room.
func fillDisk(ctx context.Context, t *Target, r *rand.Rand) (Undo, string, error) {
	kib := r.IntN(16) << 10
	node, err := t.source()
	if err != nil {
		return nil, "", err
	}
	undo := func(ctx context.Context) error { return errors.Join(freeDisk(ctx, node), seeDisk(ctx, t.Bed, node)) }
	// tmpfs takes size 0 for no bound.
	script := fmt.Sprintf("mkdir -p %[1]s && mount -t tmpfs -o mode=0700,size=%[2]dk,nr_inodes=1000 chaos %[1]s", archives, max(kib, 4))
	if kib == 0 {
		script += fmt.Sprintf(" && head -c 4096 /dev/zero > %s/full", archives)
	}
	if _, err := node.Exec(ctx, "sh", "-c", script); err != nil {
		return nil, "", errors.Join(err, undo(ctx))
	}
	if _, err := node.Exec(ctx, "sh", "-c", fmt.Sprintf("head -c %d /dev/zero > %s/probe", kib<<10+8192, archives)); err == nil {
		return nil, "", errors.Join(fmt.Errorf("the disk of %s is not full", node.Name()), undo(ctx))
	}
	if _, err := node.Exec(ctx, "rm", "-f", archives+"/probe"); err != nil {
		return nil, "", errors.Join(err, undo(ctx))
	}
	return undo, fmt.Sprintf("%d KiB are left for the archives of %s", kib, node.Name()), nil
}

// freeDisk takes all that fillDisk mounted off.
func freeDisk(ctx context.Context, node *cluster.Node) error {
	const script = `while grep -q "^chaos $1 " /proc/mounts; do umount -l "$1" || exit 1; done`
	_, err := node.Exec(ctx, "sh", "-c", script, "sh", archives)
	return err
}

// seeDisk replaces an agent that was started while the disk was full: it would see that small file system for ever.
func seeDisk(ctx context.Context, b *bed.Bed, node *cluster.Node) error {
	all, err := processes(ctx, "agent", node)
	if err != nil {
		return err
	}
	for _, p := range all {
		dir, err := p.dir()
		if err != nil {
			return err
		}
		mounts, err := os.ReadFile(filepath.Join(dir, "mounts"))
		if err != nil || !strings.Contains(string(mounts), "chaos "+archives+" ") {
			continue // it may have ended since
		}
		pods, err := b.ComponentPods(ctx, "cryopod-agent")
		if err != nil {
			return err
		}
		for i := range pods {
			if pods[i].Spec.NodeName != node.Name() {
				continue
			}
			if err := client.IgnoreNotFound(b.Client.Delete(ctx, &pods[i])); err != nil {
				return fmt.Errorf("replacing agent %q: %w", pods[i].Name, err)
			}
		}
	}
	return nil
}
