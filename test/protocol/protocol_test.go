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
	workers    = flag.Int("workers", 2, "run so many schedules at a time")
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// folder is where ledgers go: in memory where there is one, as they are written through to the disk.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "cryopod-protocol-")
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
