// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"testing"

	"github.com/cryopod/cryopod/test/e2e/image"
)

const (
	agents          = "cryopod-agent"
	prefetchedBytes = "cryopod_agent_prefetched_bytes_total"
	// weight is how many MiB a base image has that takes the kubelet a while.
	weight = 96
)

// testPrefetch moves a pod to a node that lacks its base image: while the kubelet pulls that, the agent fetches the checkpoint.
func testPrefetch(t *testing.T) {
	s := newScene(t, "prefetch", nil, "main")
	base := testbed.Cluster.RegistryName() + "/cryopod/" + s.Namespace + ":1"
	if err := image.Weigh(t.Context(), testbed.OnHost(s.Images.Stepper), testbed.OnHost(base), weight); err != nil {
		t.Fatal(err)
	}
	s.Images.Stepper = base
	s.create(s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main", "-memory=16"))))
	before := s.settle()
	target := s.otherNode(before).Name()
	had := s.prefetched(target)
	after := s.drain(before)
	s.checkMoved(before, after, 1)
	if has := s.prefetched(target); after.Spec.NodeName != target || has <= had {
		t.Errorf("the agent of %s had fetched %.0f bytes ahead, and has fetched %.0f; the pod went to %s", target, had, has, after.Spec.NodeName)
	}
}

// prefetched is how many bytes the node's agent has fetched ahead.
func (s *scene) prefetched(node string) float64 {
	s.t.Helper()
	ctx, cancel := s.within(askTimeout)
	defer cancel()
	pods, err := testbed.ComponentPods(ctx, agents)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range pods {
		if p.Spec.NodeName != node {
			continue
		}
		bytes, err := testbed.Metric(ctx, p, prefetchedBytes, "")
		if err != nil {
			s.t.Fatal(err)
		}
		return bytes
	}
	s.t.Fatalf("%s has no agent", node)
	return 0
}
