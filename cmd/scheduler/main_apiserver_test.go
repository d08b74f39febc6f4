// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
	"github.com/cryopod/cryopod/test/apiserver"
)

// runMain, in the environment, makes this test binary be the command itself.
const runMain = "CRYOPOD_TEST_RUN_SCHEDULER"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestScheduler runs the scheduler as it is shipped: beside the cluster's own.
func TestScheduler(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.kubectl(t, "apply", "-k", filepath.Join(c.Checkout, "manifests", "scheduler"))
	c.node(t, "verified-soon", false)
	c.node(t, "cached", false, imageindex.Image{
		Digest: appDigest, Names: []string{appImage}, Layers: []imageindex.Layer{{Digest: digestOf("b"), Bytes: 300 << 20}},
	})
	s := c.run(t, c.shipped(t))

	t.Run("holds its Lease", func(t *testing.T) {
		apiserver.Await(t, "the Lease's holder", func(ctx context.Context) (string, bool, error) {
			var lease coordinationv1.Lease
			err := c.admin.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.SchedulerName}, &lease)
			return "", err == nil && lease.Spec.HolderIdentity != nil, client.IgnoreNotFound(err)
		})
	})
	t.Run("a fresh pod goes where its image is", func(t *testing.T) {
		c.awaitNode(t, c.pod(t, "fresh", v1alpha1.SchedulerName, map[string]string{v1alpha1.AnnotationEnabled: "true"}), "cached")
	})
	t.Run("a restoring pod waits for a node that has verified restoring", func(t *testing.T) {
		pod := c.restoringPod(t)
		c.awaitMessage(t, pod, "0/2 nodes are available: 2 node(s) whose agent has not verified restoring by method image.")
		c.verify(t, "verified-soon")
		c.awaitNode(t, pod, "verified-soon")
	})
	t.Run("its metrics are served", func(t *testing.T) {
		got := s.metrics(t)
		for _, want := range []string{
			`cryopod_scheduler_decisions_total\{outcome="checked"\} [1-9]`,
			`cryopod_scheduler_refusals_total\{reason="method_unverified"\} [2-9]`,
		} {
			if !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("/metrics lacks %s", want)
			}
		}
	})
	t.Run("its log tells why", func(t *testing.T) {
		s.stop()
		want := `"Predicted" pod="default/restoring" plugin="CheckpointLocality" node="verified-soon" seconds=`
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log lacks %s", want)
		}
	})
	t.Run("with nodes of its own", func(t *testing.T) {
		c.install(t, "own-nodes")
		c.testOwnNodes(t, c.run(t, c.shipped(t)))
	})
}

// testOwnNodes labels and taints a node as docs/scheduling.md says, and has the cluster's scheduler place pods beside Cryopod's.
func (c *cluster) testOwnNodes(t *testing.T, ours *process) {
	c.node(t, "own", true)
	c.kubectl(t, "label", "node", "own", "checkpoint.io/nodes=own")
	c.kubectl(t, "taint", "node", "own", "checkpoint.io/nodes=own:NoSchedule")
	plain := c.runPlain(t)
	ours.awaitReady(t)
	plain.awaitReady(t)
	tolerant := func(cpu string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "checkpoint.io/nodes", Operator: corev1.TolerationOpEqual, Value: "own", Effect: corev1.TaintEffectNoSchedule}}
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
		}
	}
	enabled := map[string]string{v1alpha1.AnnotationEnabled: "true"}
	for i := range 3 {
		c.awaitNode(t, c.pod(t, fmt.Sprintf("own-%d", i), v1alpha1.SchedulerName, enabled, tolerant("1")), "own")
		other := c.pod(t, fmt.Sprintf("other-%d", i), corev1.DefaultSchedulerName, nil)
		c.awaitNode(t, other, "")
		if other.Spec.NodeName == "own" {
			t.Errorf("the cluster's scheduler placed pod %q on a node of Cryopod's", other.Name)
		}
	}
	// Two other nodes are empty.
	c.awaitMessage(t, c.pod(t, "too-much", v1alpha1.SchedulerName, enabled, tolerant("2")), "0/3 nodes are available: 1 Insufficient cpu, 2 ")
}
