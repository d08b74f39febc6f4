// SPDX-License-Identifier: Apache-2.0

package imports_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/test/imports"
)

const module = "github.com/cryopod/cryopod"

// parts never import one another: what two of them need belongs further down.
var parts = []string{"pkg/admission", "pkg/checkpoint", "pkg/agent", "pkg/locality", "pkg/cli", "pkg/rest"}

// rules are those of DESIGN.md («who may import whom») and their consequences.
var rules = map[string]struct {
	// of are the trees that the rule is about, except those in but.
	of, but []string
	// not tells what may not be imported, directly or through other packages of the module.
	not func(from, imported string) bool
}{
	"the parts never import one another": {
		of: parts,
		not: func(from, imported string) bool {
			for _, part := range parts {
				if imports.Below(imported, part) && !imports.Below(from, part) {
					return true
				}
			}
			return false
		},
	},
	"the API types import nothing of ours": {
		of:  []string{"pkg/api"},
		not: func(from, imported string) bool { return ours(imported) && !imports.Below(imported, from) },
	},
	"the archive reader imports nothing of ours": {
		of:  []string{"pkg/archive"},
		not: func(_, imported string) bool { return ours(imported) && !imports.Below(imported, "pkg/archive") },
	},
	"the image pusher imports the archive reader only": {
		of:  []string{"pkg/image"},
		not: func(_, imported string) bool { return ours(imported) && !imports.Below(imported, "pkg/archive") },
	},
	"what decides without looking around is pure": {
		of: []string{"pkg/wish", "pkg/match", "pkg/inject", "pkg/termination", "pkg/plan", "pkg/budget"},
		not: func(_, imported string) bool {
			return imports.Below(imported, "k8s.io/client-go", "sigs.k8s.io/controller-runtime", "net/http", "os", "time/tzdata")
		},
	},
	"only the scheduler, and what measures it, imports Kubernetes itself": {
		of:  []string{"pkg", "cmd", "certs", "hack", "test"},
		but: []string{"pkg/locality", "cmd/scheduler", "test/bench/scheduler"},
		not: func(_, imported string) bool { return imports.Below(imported, "k8s.io/kubernetes") },
	},
	"only the agent, the OCI runtime and cryopod-run run programs": {
		of:  []string{"pkg", "cmd", "certs"},
		but: []string{"pkg/agent", "cmd/agent", "cmd/oci-runtime", "cmd/cryopod-run"},
		not: func(_, imported string) bool { return imported == "os/exec" },
	},
	"the product does not import what tests and builds it": {
		of:  []string{"pkg", "cmd", "certs"},
		not: func(_, imported string) bool { return imports.Below(imported, "test", "hack", "testing") },
	},
	"the packages never import the programs": {
		of:  []string{"pkg", "certs"},
		not: func(_, imported string) bool { return imports.Below(imported, "cmd") },
	},
}

func ours(pkg string) bool { return imports.Below(pkg, "pkg", "cmd", "certs", "hack", "test") }

func TestRules(t *testing.T) {
	graph, err := imports.Read("../..", module)
	if err != nil {
		t.Fatal(err)
	}
	if len(graph["pkg/image"]) == 0 {
		t.Fatal("the graph lacks packages that are there")
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			for pkg := range graph {
				if !imports.Below(pkg, rule.of...) || imports.Below(pkg, rule.but...) {
					continue
				}
				for _, chain := range graph.Reach(pkg, func(imported string) bool { return rule.not(pkg, imported) }) {
					t.Errorf("%s", strings.Join(chain, " imports "))
				}
			}
		})
	}
}

func TestReach(t *testing.T) {
	g := imports.Graph{
		"pkg/a": {"fmt", "pkg/b"},
		"pkg/b": {"pkg/a", "pkg/c"},
		"pkg/c": {"os/exec"},
	}
	got := g.Reach("pkg/a", func(p string) bool { return p == "os/exec" })
	want := [][]string{{"pkg/a", "pkg/b", "pkg/c", "os/exec"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ways (-want +got):\n%s", diff)
	}
}

func TestBelow(t *testing.T) {
	for pkg, want := range map[string]bool{"pkg/agent": true, "pkg/agent/fence": true, "pkg/agents": false, "pkg": false} {
		if got := imports.Below(pkg, "pkg/agent"); got != want {
			t.Errorf("%q is below: %v, want %v", pkg, got, want)
		}
	}
}
