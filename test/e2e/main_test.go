// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// clusterVariable names the cluster to use and to leave up.
const clusterVariable = "CRYOPOD_E2E_CLUSTER"

// parallel is above the number of tests: slots, gate and alone say who runs beside whom.
const parallel = "100"

var (
	testbed *bed.Bed
	// keep is whether the cluster, and what failed on it, stays.
	keep bool
)

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	// The client's library complains, with a stack trace, when nobody says where its logs go.
	log.SetLogger(logr.Discard())
	ctx := context.Background()
	name := os.Getenv(clusterVariable)
	keep = name != ""
	if !keep {
		name = "e2e"
	}
	var err error
	testbed, err = bed.Up(ctx, bed.Options{
		Cluster: name, Nodes: nodes, Reserved: append([]string{doomed, mortal}, shaken.names...), Debian: true, Progress: os.Stderr,
		// For the EvictionRequests. Cryopod does not use them unless it is told to.
		FeatureGates: map[string]bool{"EvictionRequestAPI": true}, RuntimeConfig: map[string]bool{"lifecycle.k8s.io/v1alpha1": true},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "bringing up what the tests run on:", err)
		takeDown(ctx, name)
		return 1
	}
	code := m.Run()
	if err := endScenes(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "after the last test:", err)
		code = 1
	}
	testbed.Close()
	return max(code, takeDown(ctx, name))
}

// goneTimeout bounds the time from the last test to the end of all that the tests made.
const goneTimeout = 2 * time.Minute

func endScenes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	return forgotten(ctx)
}

// takeDown returns 1 when something of the cluster stays behind that should not.
func takeDown(ctx context.Context, name string) int {
	if keep {
		return 0
	}
	if err := cluster.Down(ctx, name); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	left, err := cluster.Leftovers(name)
	if err != nil || len(left) > 0 {
		fmt.Fprintf(os.Stderr, "after the end of cluster %q there is still %q (%v)\n", name, left, err)
		return 1
	}
	return 0
}
