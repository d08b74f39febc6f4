// SPDX-License-Identifier: Apache-2.0

// Command toolchain fills the cache of the local cluster's programs: "toolchain ensure [CONTAINERD-VERSION]".
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: toolchain ensure [CONTAINERD-VERSION]")
	}
	o := toolchain.Options{Progress: os.Stderr}
	if len(args) > 1 {
		o.ContainerdVersion = args[1]
	}
	set, err := toolchain.Ensure(ctx, o)
	if err != nil {
		return err
	}
	fmt.Printf("%+v\n", *set)
	return nil
}
