// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/cmd/webhook/app"
	"github.com/cryopod/cryopod/pkg/checkpoint/retention"
)

var keptByDefault = retention.Options{Policy: retention.Policy{Count: 3, Age: time.Hour}, SweepEvery: time.Hour}

func TestRetention(t *testing.T) {
	args := "--retention-count=0 --retention-age=24h --retention-bytes=1.5Gi --retention-keep-images --retention-sweep=10m " +
		"--registry=registry.local:5000/checkpoints --registry-config=/etc/cryopod/registry --registry-insecure"
	got, err := app.Parse(strings.Fields(args), environment(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := retention.Options{
		Policy: retention.Policy{Age: 24 * time.Hour, Bytes: 3 << 29, KeepImages: true}, SweepEvery: 10 * time.Minute,
		Registry: "registry.local:5000/checkpoints", RegistryConfig: "/etc/cryopod/registry", RegistryInsecure: true,
	}
	if diff := cmp.Diff(want, got.Checkpoint.Retention); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

func TestRegistryByEnvironment(t *testing.T) {
	env := environment(map[string]string{"CRYOPOD_REGISTRY": "registry.local:5000/checkpoints"})
	for args, want := range map[string]string{"": "registry.local:5000/checkpoints", "--registry=r.io/x": "r.io/x", "--registry=": ""} {
		got, err := app.Parse(strings.Fields(args), env)
		if err != nil || got.Checkpoint.Retention.Registry != want {
			t.Errorf("with %q the registry is %q (%v), want %q", args, got.Checkpoint.Retention.Registry, err, want)
		}
	}
}

func TestRetentionRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"--retention-count=-1":      "--retention-count: -1 is negative",
		"--retention-age=0s":        "--retention-age: 0s is not positive",
		"--retention-sweep=0s":      "--retention-sweep: 0s is not positive",
		"--retention-bytes=much":    "--retention-bytes",
		"--retention-bytes=-1Gi":    "it is negative",
		"--registry=https://r.io/x": "--registry: must be a registry with a path",
		"--registry=r.io/x:latest":  "--registry: must be a registry with a path",
	} {
		if _, err := app.Parse([]string{args}, environment(nil)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", args, err, want)
		}
	}
}
