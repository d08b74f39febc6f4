// SPDX-License-Identifier: Apache-2.0

// Command demo shows Cryopod at work: it starts the local cluster, installs Cryopod by the manifests that users apply, drains the
// node of a running process with the real kubectl, and shows that the process went on at the other node where it had stopped.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
)

type options struct {
	cluster   string
	mebibytes int
	report    string
}

func (o *options) register(fs *flag.FlagSet) {
	fs.StringVar(&o.cluster, "cluster", cluster.DefaultName, "name of the local cluster; it stays up")
	fs.IntVar(&o.mebibytes, "memory", 64, "MiB of memory that the process holds and checks")
	fs.StringVar(&o.report, "report", filepath.Join("_out", "demo.json"), "file for the numbers, in the repository unless absolute")
}

func (o *options) validate() error {
	if o.mebibytes < 1 {
		return fmt.Errorf("validating --memory: %d is not positive", o.mebibytes)
	}
	return nil
}

func main() {
	var o options
	o.register(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if err := o.validate(); err != nil {
		return err
	}
	if !filepath.IsAbs(o.report) {
		root, err := source.Root()
		if err != nil {
			return err
		}
		o.report = filepath.Join(root, o.report)
	}
	return (&show{options: o, out: os.Stdout}).run(ctx)
}
