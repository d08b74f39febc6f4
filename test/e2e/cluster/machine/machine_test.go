// SPDX-License-Identifier: Apache-2.0

package machine_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
)

func TestMountLines(t *testing.T) {
	const text = `46 64 0:50 / / rw,relatime shared:24 - overlay overlay rw,lowerdir=/a,upperdir=/s/dev/disk
121 46 254:0 /with\040blank /mnt/with\040blank rw shared:50 master:3 - ext4 /dev/vda rw,discard
not a mount
`
	want := [][2]string{{"/", "rw,lowerdir=/a,upperdir=/s/dev/disk"}, {"/mnt/with blank", "rw,discard"}}
	if diff := cmp.Diff(want, machine.MountTargets(text)); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
}

func TestV1Controllers(t *testing.T) {
	for options, want := range map[string]string{
		"rw,cpu":                   "cpu",
		"rw,cpu,cpuacct":           "cpu,cpuacct",
		"rw,xattr,name=systemd":    "name=systemd",
		"rw,cpuset,noprefix":       "cpuset",
		"rw,release_agent=/x,pids": "pids",
	} {
		if diff := cmp.Diff(want, machine.V1Controllers(options)); diff != "" {
			t.Errorf("controllers of %q (-want +got):\n%s", options, diff)
		}
	}
}

func TestMemberPath(t *testing.T) {
	const members = "9:name=systemd:/init\n5:cpuacct,cpu:/a:b\n4:memory:/job/1\n0::/v2\n"
	for controllers, want := range map[string]struct {
		path   string
		member bool
	}{
		"memory":       {"/job/1", true},
		"cpu,cpuacct":  {"/a:b", true},
		"name=systemd": {"/init", true},
		"":             {"/v2", true},
		"pids":         {"", false},
		"cpu":          {"", false},
	} {
		path, member := machine.MemberPath([]byte(members), controllers)
		if path != want.path || member != want.member {
			t.Errorf("member path of %q: %q, %t, want %q, %t", controllers, path, member, want.path, want.member)
		}
	}
}

func TestInheritCPUs(t *testing.T) {
	root := t.TempDir()
	leaf := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, content := range map[string]string{root: "0-1\n", filepath.Join(root, "a"): "\n", leaf: "\n"} {
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := machine.InheritCPUs(leaf); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(root, "a"), leaf} {
		got, err := os.ReadFile(filepath.Join(dir, "cpuset.cpus"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(string(got)) != "0-1" {
			t.Errorf("processors of %q: %q, want 0-1", dir, got)
		}
	}
}

func TestRemoveTree(t *testing.T) {
	root := filepath.Join(t.TempDir(), "node")
	if err := os.MkdirAll(filepath.Join(root, "pods", "one"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := machine.RemoveTree(root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root); !os.IsNotExist(err) {
		t.Errorf("after the removal: %v", err)
	}
	if err := machine.RemoveTree(root); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
}

func TestCgroupPathTellsDirectoriesApart(t *testing.T) {
	a, b := machine.CgroupPath("/x/dev"), machine.CgroupPath("/y/dev")
	if a == b {
		t.Errorf("clusters of one name in two directories share %q", a)
	}
}

func TestWithin(t *testing.T) {
	for path, want := range map[string]bool{"/s/dev": true, "/s/dev/a": true, "/s/dev2": false, "/s": false} {
		if got := machine.Within(path, "/s/dev"); got != want {
			t.Errorf("%q within /s/dev: %t, want %t", path, got, want)
		}
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("a\nb\nc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[int]string{1: "c", 2: "b\nc", 9: "a\nb\nc"} {
		if diff := cmp.Diff(want, machine.Tail(path, lines)); diff != "" {
			t.Errorf("last %d lines (-want +got):\n%s", lines, diff)
		}
	}
	if got := machine.Tail(path+".none", 3); got != "" {
		t.Errorf("tail of a missing file: %q", got)
	}
}

func TestProcess(t *testing.T) {
	group := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	cmd.Env = []string{machine.GroupEnv(group)}
	record := filepath.Join(group, "sleep.json")
	p, err := machine.Spawn(cmd, record)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := machine.Load(record)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, loaded); diff != "" {
		t.Errorf("recorded process (-want +got):\n%s", diff)
	}
	if other := (machine.Process{PID: p.PID, Started: p.Started + 1}); other.Alive() {
		t.Error("a process of the same number but another start counts as the same")
	}
	// A process that has just begun has no environment for a moment: exec closes the pipe that Start waits for before it has set it up.
	var found []machine.Process
	for begun := time.Now(); len(found) == 0 && time.Since(begun) < 5*time.Second; runtime.Gosched() {
		if found, err = machine.GroupProcesses(group); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]machine.Process{p}, found); diff != "" {
		t.Errorf("processes of the group (-want +got):\n%s", diff)
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.WaitGone(ctx); err != nil {
		t.Error(err)
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Errorf("signaling a process that is gone: %v", err)
	}
}

func TestLoadWithoutRecord(t *testing.T) {
	p, err := machine.Load(filepath.Join(t.TempDir(), "none.json"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Alive() {
		t.Error("the process of a missing record is alive")
	}
}
