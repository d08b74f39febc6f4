// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/apiserver"
)

var rounds = flag.Int("rounds", 0, "how often TestRace fills the cluster, each way")

// TestRace measures what docs/scheduling.md says about two schedulers that fill the same nodes. With -args -rounds=5 it logs how many pods were bound
// to nodes without room for them.
func TestRace(t *testing.T) {
	if *rounds == 0 {
		t.Skip("it measures: go test -tags apiserver ./cmd/scheduler -run TestRace -v -args -rounds=5")
	}
	const nodes, each = 20, 44
	places := nodes * room.Cpu().Value()
	for name, start := range map[string]func(*testing.T, *cluster){
		"two schedulers": func(t *testing.T, c *cluster) {
			c.kubectl(t, "apply", "-k", filepath.Join(c.Checkout, "manifests", "scheduler"))
			c.runPlain(t).awaitReady(t)
		},
		"one scheduler": func(t *testing.T, c *cluster) { c.install(t, "cluster-scheduler") },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			start(t, c)
			c.run(t, c.shipped(t)).awaitReady(t)
			for i := range nodes {
				c.node(t, fmt.Sprintf("node-%d", i), true)
			}
			for round := range *rounds {
				over := c.crowd(t, fmt.Sprintf("round-%d", round), each)
				t.Logf("round %d: of %d pods for %d places, %d were bound to nodes without room for them", round, 2*each, places, over)
				if over > 0 && name == "one scheduler" {
					t.Error("one scheduler gave room away twice")
				}
			}
		})
	}
}

// crowd makes so many pods of one CPU for either scheduler at once, waits until all were looked at, and returns for how many the nodes that they
// were bound to had no room. It leaves no pod.
func (c *cluster) crowd(t *testing.T, name string, each int) (over int64) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range each {
		for _, scheduler := range []string{corev1.DefaultSchedulerName, v1alpha1.SchedulerName} {
			wg.Go(func() {
				pod := &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("%s-%s-%d", name, scheduler, i)},
					Spec:       corev1.PodSpec{SchedulerName: scheduler, Containers: []corev1.Container{{Name: "app", Image: appImage}}},
				}
				pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
				if err := c.admin.Create(t.Context(), pod); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	var pods corev1.PodList
	apiserver.Await(t, "all pods to be looked at", func(ctx context.Context) (string, bool, error) {
		open := 0
		err := c.admin.List(ctx, &pods, client.InNamespace("default"))
		for i := range pods.Items {
			if pod := &pods.Items[i]; pod.Spec.NodeName == "" && unplaced(pod) == "" {
				open++
			}
		}
		return fmt.Sprintf("%d left", open), err == nil && open == 0, err
	})
	bound := map[string]int64{}
	for i := range pods.Items {
		if node := pods.Items[i].Spec.NodeName; node != "" {
			bound[node]++
		}
	}
	for _, n := range bound {
		over += max(0, n-room.Cpu().Value())
	}
	c.empty(t)
	return over
}

// empty deletes all pods, and waits until they are gone.
func (c *cluster) empty(t *testing.T) {
	t.Helper()
	if err := c.admin.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace("default"), client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	apiserver.Await(t, "no pod", func(ctx context.Context) (string, bool, error) {
		var pods corev1.PodList
		err := c.admin.List(ctx, &pods, client.InNamespace("default"))
		return fmt.Sprintf("%d pods", len(pods.Items)), len(pods.Items) == 0, err
	})
}
