// SPDX-License-Identifier: Apache-2.0

// Command agent runs on every node: it freezes pods, has them checkpointed, brings the checkpoints to the registry, and tells
// the cluster what its node can do.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/cryopod/cryopod/cmd/agent/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := app.NewCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}
