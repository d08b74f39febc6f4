// SPDX-License-Identifier: Apache-2.0

// Command cluster-machine is the part of the local cluster that stays when the command that started it has ended: the
// first process of a machine, and the forwarder between the host's loopback and the cluster's network. It is started
// by package cluster, not by hand.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
)

const usage = "usage: cluster-machine init DIR | cluster-machine forward NETNS ADDRESS..."

// The first thread is the one that enters namespaces and executes anew: while another one took its place in that, which takes a while on
// a busy machine, the process would seem to have ended, and to have no namespaces.
func init() { runtime.LockOSThread() }

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cluster-machine:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "init" {
		return machine.Init(args[1])
	}
	if len(args) > 2 && args[0] == "forward" {
		return machine.ForwardInherited(context.Background(), args[1], args[2:])
	}
	return fmt.Errorf("%s", usage)
}
