// SPDX-License-Identifier: Apache-2.0

package protocol_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/test/protocol"
)

var (
	deviations = flag.Int("deviations", 1, "explore schedules with so many deviations")
	every      = flag.Uint64("every", 0, "of those with the most, take one in so many")
	scriptName = flag.String("script", "", "the script whose story to tell")
	plan       = flag.String("plan", "", "the deviations in that story")
	only       = flag.String("only", "", "plant this bug only")
	workers    = flag.Int("workers", 2, "run so many schedules at a time")
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// folder is where ledgers go: in memory where there is one, as they are written through to the disk.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "cryopod-protocol-") //nolint:usetesting // not below the place for temporary files
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestProtocol(t *testing.T) {
	for _, s := range protocol.Scripts() {
		t.Run(s.Name, func(t *testing.T) {
			r := protocol.Explore(t, s, protocol.Bounds{Deviations: *deviations, Every: *every, Workers: *workers}, folder(t))
			t.Logf("%d schedules, %d states, %d points, in %s", r.Schedules, r.States, r.Points, r.Took.Round(1e7))
			if r.Violation != nil {
				t.Errorf("%s\nwith %s:\n%s", r.Violation, protocol.Name(r.Plan), strings.Join(r.Story, "\n"))
			}
		})
	}
}

// TestTell tells the story of one schedule: -script NAME -plan '0007 fails; 0012 …'.
func TestTell(t *testing.T) {
	if *scriptName == "" {
		t.Skip("no -script")
	}
	for _, s := range protocol.Scripts() {
		if s.Name == *scriptName {
			r := protocol.Tell(t, s, *plan, folder(t))
			t.Logf("%v, after %s\n%s", r.Violation, r.Took, strings.Join(r.Story, "\n"))
		}
	}
}
