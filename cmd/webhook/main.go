// SPDX-License-Identifier: Apache-2.0

// Command webhook answers the API server about pods and evictions, on every replica, and runs the controllers of PodCheckpoints, on
// the leader.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cryopod/cryopod/cmd/webhook/app"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "webhook:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	options, err := app.Parse(args, os.LookupEnv)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	return app.Run(ctrl.SetupSignalHandler(), options)
}
