// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package throughput_test

import (
	"os"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cryopod/cryopod/test/bench/scheduler/timed"
)

func TestMain(m *testing.M) {
	if timed.Asked(os.Args) {
		os.Exit(timed.Run(os.Args[2:]))
	}
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}
