// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/install"
	"github.com/cryopod/cryopod/test/e2e/object"
)

// TestCrashAfterRestarts kills a restored process after what keeps it from rewinding, the node's agent or containerd, was away or was
// restarted: it must begin anew all the same. It disturbs whole nodes, hence it has two to itself.
func TestCrashAfterRestarts(t *testing.T) {
	s := newShakenScene(t, "restarts")
	pod := s.settle()
	for _, c := range []struct {
		name string
		// before and after happen to the target before and after the restore.
		before, after func(*scene, *cluster.Node)
	}{
		{"the agent is restarted", nothing, restartAgent},
		{"containerd is restarted", nothing, restartRuntime},
		{"the agent is away during the restore", stopAgent, restartAgent},
	} {
		s.t.Log(c.name)
		target := s.otherNode(pod)
		c.before(s, target)
		pod = s.drain(pod)
		s.checkRestored(pod)
		s.goesOn(pod)
		c.after(s, target)
		crashStartsCold(s)
		pod = s.settle()
	}
}

// shakenTurn is held by the test that has the nodes of shaken.
var shakenTurn sync.Mutex

// newShakenScene makes a scene on the nodes of shaken, which no other test has meanwhile, with a Deployment of a stepper of these arguments.
func newShakenScene(t *testing.T, name string, args ...string) *scene {
	t.Helper()
	beside(t)
	shakenTurn.Lock()
	t.Cleanup(shakenTurn.Unlock)
	s := newScene(t, name, nil, "main")
	s.nodes = shaken
	s.create(s.Deployment(s.name, object.ReservedOnly(s.Template(s.name, s.Stepper(s.name, "main", args...)), shaken.names...)))
	return s
}

// goesOn returns once the pod has done some steps.
func (s *scene) goesOn(pod *corev1.Pod) {
	s.t.Helper()
	ctx, cancel := s.within(moveTimeout)
	defer cancel()
	s.wait(ctx, "main", carriedOn(pod.Status.PodIP))
}

// otherNode is the one of the scene's nodes that the pod is not on.
func (s *scene) otherNode(pod *corev1.Pod) *cluster.Node {
	s.t.Helper()
	node, err := s.nodes.other(pod.Spec.NodeName)
	if err != nil {
		s.t.Fatal(err)
	}
	return node
}

func nothing(*scene, *cluster.Node) {}

func restartRuntime(s *scene, node *cluster.Node) {
	ctx, cancel := s.within(moveTimeout)
	defer cancel()
	if err := node.RestartRuntime(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// stopAgent stops the agent's process in the middle of what it does, without the kubelet noticing at once.
func stopAgent(s *scene, node *cluster.Node) {
	ctx, cancel := s.within(askTimeout)
	defer cancel()
	if _, err := node.Exec(ctx, "pkill", "-STOP", "-x", "agent"); err != nil {
		s.t.Fatal(err)
	}
}

// restartAgent kills the node's agent and returns when another one works.
func restartAgent(s *scene, node *cluster.Node) {
	ctx, cancel := s.within(moveTimeout)
	defer cancel()
	old, err := agentPod(ctx, node.Name())
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := testbed.Kubectl.Run(ctx, "delete", "pod", "-n", old.Namespace, old.Name, "--force", "--grace-period=0"); err != nil {
		s.t.Fatal(err)
	}
	err = bed.Until(ctx, func(ctx context.Context) error {
		now, err := agentPod(ctx, node.Name(), old.UID)
		if err != nil {
			return err
		}
		for _, c := range now.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("the agent %q is not ready", now.Name)
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// agentPod is the node's agent, other than those of the UIDs.
func agentPod(ctx context.Context, node string, not ...types.UID) (*corev1.Pod, error) {
	var pods corev1.PodList
	err := testbed.Client.List(ctx, &pods, client.InNamespace(install.Namespace),
		client.MatchingLabels{"app.kubernetes.io/name": "cryopod-agent"}, client.MatchingFields{"spec.nodeName": node})
	if err != nil {
		return nil, err
	}
next:
	for i := range pods.Items {
		for _, uid := range not {
			if pods.Items[i].UID == uid {
				continue next
			}
		}
		return &pods.Items[i], nil
	}
	return nil, fmt.Errorf("node %q has no agent", node)
}
