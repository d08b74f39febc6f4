// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package crowd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cryopod/cryopod/cmd/webhook/app"
)

// runProgram, in the environment, makes this test binary be the webhook's program.
const runProgram = "CRYOPOD_TEST_RUN_WEBHOOK"

func TestMain(m *testing.M) {
	if os.Getenv(runProgram) != "" {
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, "webhook:", err)
			os.Exit(1)
		}
		return
	}
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

func run() error {
	options, err := app.Parse(os.Args[1:], os.LookupEnv)
	if err != nil {
		return err
	}
	err = app.Run(ctrl.SetupSignalHandler(), options)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
