// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"testing"
	"time"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/install"
)

const (
	// Only the agent that is deleted comes back with other arguments. Its last one is the threshold.
	onDelete = `[
		{"op": "replace", "path": "/spec/updateStrategy", "value": {"type": "OnDelete"}},
		{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--pressure-memory=1Ti"}]`
	rolling = `[{"op": "replace", "path": "/spec/updateStrategy", "value": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}}]`
)

// TestMemoryPressure has the agent of one node take the node's memory for all but used up: the pod moves before its kubelet would have
// killed it, and nobody else asked for that. It restarts agents, hence no other test runs beside it.
func TestMemoryPressure(t *testing.T) {
	s := newScene(t, "pressure", nil, "main")
	s.create(s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main"))))
	before := s.settle()
	node, err := testbed.Cluster.Node(before.Spec.NodeName)
	if err != nil {
		t.Fatal(err)
	}
	s.press(node)
	begun := time.Now()
	after := s.replaced(before, moveTimeout)
	t.Logf("pod %q runs on %s %.1f s after the agent of %s began", after.Name, after.Spec.NodeName, time.Since(begun).Seconds(), node.Name())
	s.checkMoved(before, after, 1)
	s.checkReason(before, v1alpha1.ReasonEviction)
}

// press restarts the node's agent with a threshold that no machine's memory is above, and undoes it when the test ends.
func (s *scene) press(node *cluster.Node) {
	s.t.Helper()
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		for _, args := range [][]string{
			{"rollout", "undo", "daemonset/cryopod-agent", "-n", install.Namespace},
			{"patch", "daemonset", "-n", install.Namespace, "cryopod-agent", "--type=json", "--patch=" + rolling},
			{"rollout", "status", "daemonset/cryopod-agent", "-n", install.Namespace, "--timeout=3m"},
		} {
			if _, err := testbed.Kubectl.Run(ctx, args...); err != nil {
				s.t.Error(err)
			}
		}
	})
	ctx, cancel := s.within(askTimeout)
	defer cancel()
	_, err := testbed.Kubectl.Run(ctx, "patch", "daemonset", "-n", install.Namespace, "cryopod-agent", "--type=json", "--patch="+onDelete)
	if err != nil {
		s.t.Fatal(err)
	}
	restartAgent(s, node)
}
