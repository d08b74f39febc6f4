// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package crowd_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/webhook/crowd"
	"github.com/cryopod/cryopod/test/bench/webhook/program"
)

// TestHeldAtOnce is the benchmark's trial of 500 evictions with as few as a busy machine too has begun before the first of them has been held for
// its 20 s and is put off: all are held at the same time.
func TestHeldAtOnce(t *testing.T) {
	const (
		pods   = 50
		memory = 32 << 20
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
	p, err := program.Start(t.Context(), b, os.Args[0], fmt.Sprintf("--max-holds=%d", pods), "--pickup-timeout=1m")
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
	trial, err := k.Try(t.Context(), p, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range trial.Wrong {
		t.Error(wrong)
	}
	if trial.Highest.Held > pods || len(trial.Saved) != pods || len(trial.Crowded) != pods {
		t.Errorf("%g requests were held at once, %d ended their pods, %d more were put off; want %d each",
			trial.Highest.Held, len(trial.Saved), len(trial.Crowded), pods)
	}
	if grown := trial.Highest.PeakResident - trial.Before.Resident; grown > memory {
		t.Errorf("holding them took %.0f MiB of memory, want %d at most", grown/(1<<20), memory>>20)
	}
	t.Logf("before %+v\nhighest %+v\nafter %+v\n%g calls of the API server", trial.Before, trial.Highest, trial.After, trial.Calls)
}
