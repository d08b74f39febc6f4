// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// command prepares a program on a machine.
type command func(ctx context.Context, argv ...string) (*exec.Cmd, error)

// onMachine runs programs on a node or on "control-plane".
func (t *Target) onMachine(name string) command {
	return func(ctx context.Context, argv ...string) (*exec.Cmd, error) {
		return t.Bed.Cluster.Command(ctx, name, argv...)
	}
}

// filter puts a table of nftables on a machine, over one of the same name, and returns what takes it off.
func filter(ctx context.Context, on command, table, chains string) (Undo, error) {
	if err := nft(ctx, on, fmt.Sprintf("destroy table ip %[1]s\ntable ip %[1]s {\n%[2]s\n}\n", table, chains)); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return nft(ctx, on, "destroy table ip "+table+"\n") }, nil
}

// nftTimeout bounds one change: its kernel lock is held for moments only.
const nftTimeout = 10 * time.Second

func nft(ctx context.Context, on command, commands string) error {
	ctx, cancel := context.WithTimeout(ctx, nftTimeout)
	defer cancel()
	cmd, err := on(ctx, "nft", "-f", "-")
	if err != nil {
		return err
	}
	cmd.Stdin = strings.NewReader(commands)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("changing the packet filter: %w: %s", err, out)
	}
	return nil
}
