// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"strings"
	"testing"
)

// TestEvictionRequestsNotServed has a replica respond to what the API server does not have: it says so, and all else goes on.
func TestEvictionRequestsNotServed(t *testing.T) {
	t.Parallel()
	c := start(t)
	r := c.run(t, "--leader-elect=false", "--eviction-requests")
	r.awaitReady(t)
	if n := strings.Count(r.log.String(), "Not responding to EvictionRequests"); n != 1 {
		t.Errorf("the replica said %d times that there are no EvictionRequests, want once", n)
	}
	c.testRestored(t)
}
