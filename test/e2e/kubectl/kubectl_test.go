// SPDX-License-Identifier: Apache-2.0

package kubectl_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cryopod/cryopod/test/e2e/kubectl"
)

// script stands for kubectl.
func script(t *testing.T, lines string) kubectl.Tool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubectl")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+lines+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return kubectl.Tool{Path: path, Kubeconfig: "config"}
}

func TestDrain(t *testing.T) {
	cases := map[string]struct {
		lines     string
		requested bool
		failed    bool
		output    string
	}{
		"evicts": {
			lines:     `echo node/n cordoned; echo evicting pod ns/p; echo node/n drained`,
			requested: true,
			output:    "node/n cordoned\nevicting pod ns/p\nnode/n drained\n",
		},
		"nothing to evict": {lines: `echo node/n drained`, output: "node/n drained\n"},
		"fails":            {lines: `echo evicting pod ns/p; echo no >&2; exit 1`, requested: true, failed: true, output: "evicting pod ns/p\nno\n"},
		"passes its arguments": {
			lines:  `echo "$@"`,
			output: "--kubeconfig config drain n --ignore-daemonsets --delete-emptydir-data --timeout=1m0s --pod-selector=a=b\n",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var live strings.Builder
			got, err := script(t, c.lines).Drain(context.Background(), kubectl.Drain{
				Node: "n", Selector: "a=b", Timeout: time.Minute, Output: &live,
			})
			if (err != nil) != c.failed {
				t.Errorf("error %v, want one: %v", err, c.failed)
			}
			if got.Output != c.output || live.String() != c.output {
				t.Errorf("output %q, live %q, want %q", got.Output, live.String(), c.output)
			}
			if got.Requested.IsZero() == c.requested {
				t.Errorf("requested at %v, want a time: %v", got.Requested, c.requested)
			}
		})
	}
}

func TestDrainWithoutEvictions(t *testing.T) {
	d := kubectl.Drain{Node: "n", Timeout: time.Minute, DisableEviction: true}
	want := "kubectl drain n --ignore-daemonsets --delete-emptydir-data --timeout=1m0s --disable-eviction"
	if got := d.String(); got != want {
		t.Errorf("command %q, want %q", got, want)
	}
}
