// SPDX-License-Identifier: Apache-2.0

// Command toolchain fills the cache of the local cluster: with its programs by "toolchain ensure [CONTAINERD-VERSION]",
// with the tests' images by "toolchain images [NAME...]".
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
	"github.com/cryopod/cryopod/test/e2e/image"
)

var errUsage = errors.New("usage: toolchain ensure [CONTAINERD-VERSION] | toolchain images [NAME...]")

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
		return errUsage
	}
	switch command, rest := args[0], args[1:]; command {
	case "ensure":
		return ensure(ctx, rest)
	case "images":
		return images(ctx, rest)
	}
	return errUsage
}

func ensure(ctx context.Context, args []string) error {
	o := toolchain.Options{Progress: os.Stderr}
	if len(args) > 0 {
		o.ContainerdVersion = args[0]
	}
	set, err := toolchain.Ensure(ctx, o)
	if err != nil {
		return err
	}
	fmt.Printf("%+v\n", *set)
	return nil
}

func images(ctx context.Context, names []string) error {
	if len(names) == 0 {
		names = image.Names()
	}
	for _, name := range names {
		built, err := image.Builder{Progress: os.Stderr}.Build(ctx, name)
		if err != nil {
			return err
		}
		digest, err := built.Digest()
		if err != nil {
			return err
		}
		fmt.Println(name, digest)
	}
	return nil
}
