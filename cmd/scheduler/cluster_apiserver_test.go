// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/apiserver"
)

// TestClusterScheduler runs the scheduler as the component cluster-scheduler has it: as the cluster's own, with a kube-scheduler in reserve. It
// takes over, and gives back, as docs/scheduling.md has it done.
func TestClusterScheduler(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.install(t, "cluster-scheduler")
	c.node(t, "node-1", true)
	c.node(t, "node-2", true)
	plain := c.runPlain(t)
	theirs := c.holder(t, "")
	ours := c.run(t, c.shipped(t))
	ours.awaitReady(t)

	waiting := c.pod(t, "waiting", v1alpha1.SchedulerName, map[string]string{v1alpha1.AnnotationEnabled: "true"})
	t.Run("who leads places its own pods, and who waits places none", func(t *testing.T) {
		c.awaitNode(t, c.pod(t, "before", corev1.DefaultSchedulerName, nil), "")
		c.refresh(t, waiting)
		if waiting.Spec.NodeName != "" || unplaced(waiting) != "" {
			t.Errorf("Cryopod's scheduler gave node %q (%s) before it was its turn", waiting.Spec.NodeName, unplaced(waiting))
		}
	})
	plain.stop()
	mine := c.holder(t, theirs)
	t.Run("one process places the pods of both names", func(t *testing.T) {
		c.awaitNode(t, waiting, "")
		c.awaitNode(t, c.pod(t, "after", corev1.DefaultSchedulerName, nil), "")
		c.awaitNode(t, c.restoringPod(t), "")
		if want := `leader_election_master_status{name="kube-scheduler"} 1`; !strings.Contains(ours.metrics(t), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	})
	t.Run("no room is given away twice", c.testNoRoomTwice)
	t.Run("the one in reserve takes over", func(t *testing.T) {
		c.runPlain(t).awaitReady(t)
		if now := c.holder(t, ""); now != mine {
			t.Fatalf("%q holds the Lease before Cryopod's scheduler ends, %q held it", now, mine)
		}
		ours.stop()
		c.holder(t, mine)
		c.awaitNode(t, c.pod(t, "back", corev1.DefaultSchedulerName, nil, small), "")
	})
}

// testNoRoomTwice makes more pods than the nodes have room for, for both schedulers at once, and looks at what each node was given.
func (c *cluster) testNoRoomTwice(t *testing.T) {
	const each, sum = 10, 20
	var pods []*corev1.Pod
	for i := range each {
		for _, scheduler := range []string{corev1.DefaultSchedulerName, v1alpha1.SchedulerName} {
			pods = append(pods, c.pod(t, fmt.Sprintf("%s-%d", scheduler, i), scheduler, nil, func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}
			}))
		}
	}
	used := map[string]*resource.Quantity{}
	placed := map[string]int{}
	for _, pod := range pods {
		apiserver.Await(t, pod.Name+" to be looked at", func(ctx context.Context) (string, bool, error) {
			err := c.admin.Get(ctx, client.ObjectKeyFromObject(pod), pod)
			return unplaced(pod), pod.Spec.NodeName != "" || unplaced(pod) != "", err
		})
		if node := pod.Spec.NodeName; node != "" {
			if used[node] == nil {
				used[node] = &resource.Quantity{}
			}
			used[node].Add(*pod.Spec.Containers[0].Resources.Requests.Cpu())
			placed[pod.Spec.SchedulerName]++
		}
	}
	for node, cpu := range used {
		if cpu.Cmp(*room.Cpu()) != 0 {
			t.Errorf("node %q has %s CPUs and was given pods of %s", node, room.Cpu(), cpu)
		}
	}
	if all := placed[corev1.DefaultSchedulerName] + placed[v1alpha1.SchedulerName]; len(placed) != 2 || all >= sum {
		t.Errorf("of %d pods were placed %v, want some of both names, and not all", sum, placed)
	}
}

// small is a pod that fits anywhere.
func small(p *corev1.Pod) {
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Mi")}
}

// install applies the manifests with a component, without the webhook's configuration: nobody answers it here.
func (c *cluster) install(t *testing.T, component string) {
	t.Helper()
	manifests, err := filepath.Rel(c.dir, filepath.Join(c.Checkout, "manifests"))
	if err != nil {
		t.Fatal(err)
	}
	overlay := fmt.Sprintf(`
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [%[1]s]
components: [%[1]s/components/%[2]s]
patches:
- patch: |
    $patch: delete
    apiVersion: admissionregistration.k8s.io/v1
    kind: MutatingWebhookConfiguration
    metadata:
      name: cryopod
`, manifests, component)
	if err := os.WriteFile(filepath.Join(c.dir, "kustomization.yaml"), []byte(overlay), 0o600); err != nil {
		t.Fatal(err)
	}
	c.kubectl(t, "apply", "--server-side", "--force-conflicts", "-k", c.dir)
}

// holder is who holds kube-scheduler's Lease, once that is somebody other than before.
func (c *cluster) holder(t *testing.T, before string) string {
	t.Helper()
	var lease coordinationv1.Lease
	apiserver.Await(t, "a holder of the Lease other than "+before, func(ctx context.Context) (string, bool, error) {
		err := c.admin.Get(ctx, client.ObjectKey{Namespace: "kube-system", Name: "kube-scheduler"}, &lease)
		now := ptr.Deref(lease.Spec.HolderIdentity, "")
		return now, now != "" && now != before, client.IgnoreNotFound(err)
	})
	return *lease.Spec.HolderIdentity
}

func (c *cluster) refresh(t *testing.T, o client.Object) {
	t.Helper()
	if err := c.admin.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
}
