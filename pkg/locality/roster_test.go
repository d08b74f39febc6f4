// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"testing"

	"github.com/cryopod/cryopod/pkg/imageindex"
)

// TestNodesAreKnownByTheirObjects has the status of all nodes be updated: they are asked for by name then, and by their new objects soon after.
func TestNodesAreKnownByTheirObjects(t *testing.T) {
	r := newRandomCluster(1)
	image := r.image()
	for _, n := range r.nodes {
		p := newProfile(n.Name, true)
		p.Status.ImageIndex = imageindex.Pack([]imageindex.Image{image})
		r.Profile(nil, p)
	}
	predicted := func(when string, want int) {
		t.Helper()
		before := r.PredictedAtOnce()
		if got := r.Disagreement(r.pod(), r.nodes); got != "" {
			t.Fatal(got)
		}
		if got := r.PredictedAtOnce() - before; got != want {
			t.Errorf("%s %d nodes' prices are predicted together, want %d", when, got, want)
		}
	}
	predicted("at first", randomNodes)
	for i, n := range r.nodes {
		r.nodes[i] = n.DeepCopy()
	}
	predicted("after all were updated", 0)
	predicted("for the next pod", randomNodes)
	r.nodes[0] = r.nodes[0].DeepCopy()
	predicted("after one was updated", randomNodes-1)
}
