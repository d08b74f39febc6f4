// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package crowd_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/webhook/crowd"
	"github.com/cryopod/cryopod/test/bench/webhook/program"
)

// TestHeldAtOnce is the benchmark's trial of 500 evictions with fewer of them, which are held for a shorter time.
func TestHeldAtOnce(t *testing.T) {
	const (
		pods = 100
		hold = 3 * time.Second
		// 64 MiB for 500, and what the Go runtime takes to grow at all.
		memory = 64 << 20
	)
	b, err := rig.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Setenv(runProgram, "1")
	p, err := program.Start(t.Context(), b, os.Args[0], fmt.Sprintf("--max-holds=%d", pods), "--hold="+hold.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		if n := p.Count("forbidden"); n > 0 {
			t.Errorf("the manifests' rights do not suffice, as %d lines of the program's log say", n)
		}
		if t.Failed() {
			t.Logf("the program's log:\n%s", p.Log())
		}
	})
	k, err := crowd.Make(t.Context(), b, pods)
	if err != nil {
		t.Fatal(err)
	}
	trial, err := k.Try(t.Context(), p, hold)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range trial.Wrong {
		t.Error(wrong)
	}
	if trial.HeldAtOnce != pods {
		t.Errorf("%d requests were held at once, want %d", trial.HeldAtOnce, pods)
	}
	if grown := trial.Highest.PeakResident - trial.Before.Resident; grown > memory {
		t.Errorf("holding them took %.0f MiB of memory, want %d at most", grown/(1<<20), memory>>20)
	}
	t.Logf("before %+v\nhighest %+v\nafter %+v\n%g calls of the API server", trial.Before, trial.Highest, trial.After, trial.Calls)
}
