// SPDX-License-Identifier: Apache-2.0

package toolchain_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/cache"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
)

// upstream maps a tool to the Go module that its version is of.
var upstream = map[string]string{
	"containerd": "github.com/containerd/containerd/v2",
	"coredns":    "github.com/coredns/coredns",
	"kubernetes": "k8s.io/kubernetes",
	"registry":   "github.com/distribution/distribution/v3",
}

func TestModulesPinTheVersionsThatWeTell(t *testing.T) {
	root, err := source.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, containerd := range toolchain.ContainerdVersions {
		pins, err := toolchain.Pins(containerd)
		if err != nil {
			t.Fatal(err)
		}
		if len(pins) != len(upstream) {
			t.Errorf("there are %d tools, want %d", len(pins), len(upstream))
		}
		for _, pin := range pins {
			module, err := os.ReadFile(filepath.Join(root, "hack", "tools", pin.Module, "go.mod"))
			if err != nil {
				t.Error(err)
				continue
			}
			required := regexp.MustCompile(`(?m)^(?:require)?\s+` + regexp.QuoteMeta(upstream[pin.Kind]+" "+pin.Version) + `(?:\s|$)`)
			if !required.Match(module) {
				t.Errorf("hack/tools/%s does not require %s %s", pin.Module, upstream[pin.Kind], pin.Version)
			}
			for _, pkg := range pin.Packages {
				if pkg != "." && !strings.Contains(string(module), "\t"+pkg+"\n") && !strings.Contains(string(module), "tool "+pkg+"\n") {
					t.Errorf("hack/tools/%s does not name the tool %s", pin.Module, pkg)
				}
			}
		}
	}
}

func TestUnknownContainerd(t *testing.T) {
	_, err := toolchain.Pins("1.7.0")
	if err == nil || !strings.Contains(err.Error(), `"1.7.0"`) || !strings.Contains(err.Error(), toolchain.DefaultContainerd) {
		t.Errorf("error does not tell what was asked for and what there is: %v", err)
	}
}

func TestToolEntries(t *testing.T) {
	modules := t.TempDir()
	write := func(content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(modules, "tool"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(modules, "tool", "go.sum"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(ldflags string) cache.Entry {
		t.Helper()
		entry, err := toolchain.ToolEntry(modules, "tool", ldflags)
		if err != nil {
			t.Fatal(err)
		}
		return entry
	}
	write("one")
	first := entry("-X a=b")
	if entry("-X a=b") != first {
		t.Error("the same module and flags make two entries")
	}
	if entry("-X a=c") == first {
		t.Error("other flags make the same entry")
	}
	write("two")
	if entry("-X a=b") == first {
		t.Error("other dependencies make the same entry")
	}
}

func TestRootEntries(t *testing.T) {
	plain := toolchain.RootEntry(false, "criu", "runc")
	for name, other := range map[string]cache.Entry{
		"with the preload":    toolchain.RootEntry(true, "criu", "runc"),
		"with other packages": toolchain.RootEntry(false, "criu", "crun"),
	} {
		if other == plain {
			t.Errorf("the root %s has the plain one's place", name)
		}
	}
	if toolchain.RootEntry(false, "criu", "runc") != plain {
		t.Error("the same packages make two entries")
	}
}
