// SPDX-License-Identifier: Apache-2.0

package protocol_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cryopod/cryopod/test/protocol"
	"github.com/cryopod/cryopod/test/protocol/seed"
	"github.com/cryopod/cryopod/test/protocol/world"
)

// planted is set in the environment of the test that runs with the bugs compiled in.
const planted = "CRYOPOD_PLANTED"

const module = "github.com/cryopod/cryopod"

// TestMutants plants bugs into production code, one at a time, and sees each one caught by the invariant that it violates. All of them are
// compiled into one program, from an overlay of the patched files; the program turns them on and off.
func TestMutants(t *testing.T) {
	if os.Getenv(planted) != "" {
		t.Skip("this is the program with the bugs; see TestPlanted")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	overlay := plant(t, root)
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet", "off", "-overlay", overlay, "-run", "^(TestPlanted|TestTell)$", "-v",
		"./test/protocol", "-args", "-only", *only, "-script", *scriptName, "-plan", *plan)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), planted+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("\n%s", out)
}

// plant writes the patched files and the overlay that names them.
func plant(t *testing.T, root string) string {
	t.Helper()
	dir, files := t.TempDir(), map[string]string{}
	for _, m := range protocol.Mutants() {
		for _, p := range m.Patches {
			text, ok := files[p.File]
			if !ok {
				raw, err := os.ReadFile(filepath.Join(root, p.File))
				if err != nil {
					t.Fatal(err)
				}
				text = strings.Replace(string(raw), "import (\n", "import (\n\t\""+module+"/test/protocol/seed\"\n", 1)
			}
			if n := strings.Count(text, p.Old); n != 1 {
				t.Fatalf("bug %q: the text that it replaces is %d times in %s, not once: adapt the patch to what the code is now:\n%s",
					m.Name, n, p.File, p.Old)
			}
			files[p.File] = strings.Replace(text, p.Old, p.New, 1)
		}
	}
	replace := map[string]string{}
	for file, text := range files {
		to := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, file)] = to
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}

// TestPlanted is the part of TestMutants that runs with the bugs compiled in.
func TestPlanted(t *testing.T) {
	if os.Getenv(planted) == "" {
		t.Skip("the bugs are not compiled in; see TestMutants")
	}
	dir := folder(t)
	if *scriptName != "" {
		seed.Plant(*only)
		return
	}
	for _, m := range protocol.Mutants() {
		if *only != "" && m.Name != *only {
			continue
		}
		seed.Plant(m.Name)
		r, script := hunt(t, m, dir)
		seed.Plant("")
		switch {
		case r.Violation == nil:
			t.Errorf("bug %q (%s) is not caught in %d schedules of %s with up to %d deviations",
				m.Name, m.What, r.Schedules, strings.Join(m.Scripts, ", "), m.Deviations)
		case !slices.Contains(m.Breaks, r.Violation.Invariant):
			t.Errorf("bug %q (%s) violates %q, not %q:\n%s", m.Name, m.What, r.Violation, m.Breaks, strings.Join(r.Story, "\n"))
		default:
			t.Logf("caught %s in %s, schedule %d (%s): %s", m.Name, script, r.Schedules, describe(r), r.Violation)
		}
	}
}

func hunt(t *testing.T, m protocol.Mutant, dir string) (protocol.Report, string) {
	t.Helper()
	var r protocol.Report
	for _, name := range m.Scripts {
		i := slices.IndexFunc(protocol.Scripts(), func(s world.Script) bool { return s.Name == name })
		if i < 0 {
			t.Fatalf("bug %q: there is no script %q", m.Name, name)
		}
		r = protocol.Explore(t, protocol.Scripts()[i], protocol.Bounds{Deviations: m.Deviations, Workers: *workers}, dir)
		if r.Violation != nil {
			return r, name
		}
	}
	return r, ""
}

func describe(r protocol.Report) string {
	if len(r.Plan) == 0 {
		return "the fair one"
	}
	return fmt.Sprintf("with %q", protocol.Name(r.Plan))
}
