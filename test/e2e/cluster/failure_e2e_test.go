// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package cluster_test

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// TestFailedPart checks that an error names the part that failed and shows its own words, and that nothing runs on.
func TestFailedPart(t *testing.T) {
	t.Parallel()
	const name = "smoke-failed"
	_, err := cluster.Up(t.Context(), cluster.Options{Name: name, Nodes: 1, FeatureGates: map[string]bool{"NoSuchGate": true}})
	if err == nil {
		t.Fatal("a cluster with an unknown feature gate came up")
	}
	t.Logf("the error:\n%v", err)
	for _, want := range []string{name, "kube-apiserver", "control-plane", "unrecognized feature gate: NoSuchGate"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	left, err := cluster.Leftovers(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left {
		if !strings.HasPrefix(l, "directory ") {
			t.Errorf("left after a failed Up: %s", l)
		}
	}
	if tail, err := cluster.LogTail(name, "control-plane", "kube-apiserver", 5); err != nil || tail == "" {
		t.Errorf("log after a failed Up: %q, %v", tail, err)
	}
	down(t, name)
}

// TestKilledRun kills the command in the midst of a start, and then uses what it left as any command would.
func TestKilledRun(t *testing.T) {
	t.Parallel()
	const name = "smoke-killed"
	command := filepath.Join(t.TempDir(), "local-cluster")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", command, "github.com/cryopod/cryopod/test/e2e/cluster/cmd/local-cluster")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the command: %v: %s", err, out)
	}
	kill := func() {
		t.Helper()
		up := exec.CommandContext(t.Context(), command, "up", "--name", name, "--nodes", "1")
		lines, err := up.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := up.Start(); err != nil {
			t.Fatal(err)
		}
		started := false
		for scan := bufio.NewScanner(lines); scan.Scan() && !started; {
			started = strings.HasPrefix(scan.Text(), "machines")
		}
		if !started {
			t.Fatal("the command ended before its machines ran")
		}
		if err := up.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = up.Wait()
		left, err := cluster.Leftovers(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(left, "\n"), "process ") {
			t.Errorf("left of a killed run: %q, want processes", left)
		}
	}
	kill()
	down(t, name)
	kill()
	f := start(t, cluster.Options{Name: name, Nodes: 1})
	f.kubectl(t, "get", "nodes")
	down(t, name)
}
