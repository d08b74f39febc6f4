// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/cryopod/cryopod/test/e2e/chaos"
	"github.com/cryopod/cryopod/test/e2e/chaos/fault"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
)

// attacks are the seeds of the runs, chosen so that they are short and have most of the faults and of the ways in which pods go.
var attacks = []uint64{2018, 2182, 795, 2123, 507, 428, 726, 2841, 2113, 1305}

// TestChaos attacks Cryopod while pods are moved, by plans that are the same each time. It strikes what all pods need, hence it runs alone.
func TestChaos(t *testing.T) {
	root, err := source.Root()
	if err != nil {
		t.Fatal(err)
	}
	klog.SetLogger(logr.Discard())
	engine, err := chaos.New(t.Context(), chaos.Options{
		Bed: testbed, Nodes: []string{testbed.Cluster.Nodes()[0].Name(), testbed.Cluster.Nodes()[1].Name()},
		Faults: chaos.Faults(regexp.MustCompile(".")), Out: filepath.Join(root, "_out", "chaos"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		engine.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if err := fault.Reset(ctx, testbed); err != nil {
			t.Error(err)
		}
	})
	for _, seed := range attacks {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			r, err := engine.Run(t.Context(), seed)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v; made: %v; %.0f s: %+v", r.Plan, r.Faults, r.Took.Seconds(), r.Verdict.Pods)
			for _, v := range r.Verdict.Violations {
				t.Errorf("violation of %v (make chaos SEED=%d RUNS=1; the history is in %s)", v, seed, r.Dir)
			}
		})
	}
}
