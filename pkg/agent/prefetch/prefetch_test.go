// SPDX-License-Identifier: Apache-2.0

package prefetch_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/agent/prefetch"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/image"
)

const prefix = "reg.local:5000/checkpoints"

// restoring is a pod of two containers that is restored.
func restoring(changes ...func(*corev1.Pod)) *corev1.Pod {
	volume := func(ref string) corev1.Volume {
		return corev1.Volume{VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: ref}}}
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "cart", UID: "uid-1", Annotations: map[string]string{v1alpha1.AnnotationRestoreFrom: "cart-1"},
		},
		Spec: corev1.PodSpec{
			NodeName:       "node-1",
			InitContainers: []corev1.Container{{Image: prefix + "/shop:cart-1.side"}},
			Containers:     []corev1.Container{{Image: prefix + "/shop:cart-1.main"}, {Image: "new:1"}, {Image: prefix + "/shop:cart-1.main"}},
			Volumes:        []corev1.Volume{{Name: "data"}, volume("base@sha256:1"), volume("base@sha256:2")},
		},
	}
	for _, c := range changes {
		c(pod)
	}
	return pod
}

func TestImages(t *testing.T) {
	both := []string{prefix + "/shop:cart-1.side", prefix + "/shop:cart-1.main"}
	tests := map[string]struct {
		change      func(*corev1.Pod)
		checkpoints []string
	}{
		"a pod that is restored":       {func(*corev1.Pod) {}, both},
		"one that is not":              {func(p *corev1.Pod) { p.Annotations = nil }, nil},
		"one that has fallen back":     {func(p *corev1.Pod) { p.Annotations[v1alpha1.AnnotationFellBack] = "criu: no" }, nil},
		"one that is being deleted":    {func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }, nil},
		"images of another namespace":  {func(p *corev1.Pod) { p.Namespace = "bank" }, nil},
		"a namespace that begins like": {func(p *corev1.Pod) { p.Namespace = "sho" }, nil},
		"by digest": {func(p *corev1.Pod) {
			p.Spec.InitContainers, p.Spec.Containers[0].Image = nil, prefix+"/shop@sha256:1"
			p.Spec.Containers = p.Spec.Containers[:1]
		}, []string{prefix + "/shop@sha256:1"}},
		"another registry": {func(p *corev1.Pod) {
			p.Spec.InitContainers = nil
			p.Spec.Containers[0].Image, p.Spec.Containers[2].Image = "evil.test/shop:cart-1.main", prefix+"/shop/x:cart-1.main"
		}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, got := prefetch.Images(restoring(tc.change), prefix)
			if diff := cmp.Diff(tc.checkpoints, got); diff != "" {
				t.Errorf("checkpoint images (-want +got):\n%s", diff)
			}
		})
	}
	bases, _ := prefetch.Images(restoring(), prefix)
	if diff := cmp.Diff([]string{"base@sha256:1", "base@sha256:2"}, bases); diff != "" {
		t.Errorf("base images (-want +got):\n%s", diff)
	}
}

// node is the registry, and the node's containerd: the registry gives a MiB a second, the kubelet has pulled the base images after some time.
type node struct {
	mu     sync.Mutex
	starts []containerd.Start
	// layers are the sizes of the layers that each image has, in MiB.
	layers map[string][]int64
	// based is when the base images are there.
	based time.Time

	opened       []string
	open, widest int
	kept         time.Duration
}

func (n *node) Restoring(context.Context) ([]containerd.Start, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.starts), nil
}

func (n *node) HasImage(context.Context, string) (bool, error) {
	return !time.Now().Before(n.based), nil
}

func (n *node) Keep(ctx context.Context, d time.Duration) (context.Context, error) {
	n.kept = d
	return ctx, nil
}

func (n *node) Layers(_ context.Context, ref string) ([]image.Blob, error) {
	sizes, ok := n.layers[ref]
	if !ok {
		return nil, errors.New("there is no such image")
	}
	var blobs []image.Blob
	for _, s := range sizes {
		blobs = append(blobs, image.Blob{Digest: ref, Bytes: s << 20})
	}
	return blobs, nil
}

func (n *node) Open(_ context.Context, ref, _ string) (io.ReadCloser, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opened = append(n.opened, ref)
	return io.NopCloser(strings.NewReader("")), nil
}

func (n *node) Ingest(ctx context.Context, layer image.Blob, open func(context.Context) (io.ReadCloser, error)) (int64, error) {
	r, err := open(ctx)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n.mu.Lock()
	n.open++
	n.widest = max(n.widest, n.open)
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.open--
		n.mu.Unlock()
	}()
	for came := int64(0); came < layer.Bytes; came += 1 << 20 {
		select {
		case <-ctx.Done():
			return came, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return layer.Bytes, nil
}

// pulls tells of images once, when the base images are there, and of one that nobody waits for before.
func (n *node) pulls(ctx context.Context, changed func()) error {
	changed()
	for _, at := range []time.Time{time.Now().Add(time.Until(n.based) / 2), n.based} {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(at)):
			changed()
		}
	}
	<-ctx.Done()
	return nil
}

func count(t *testing.T, name string) map[string]float64 {
	t.Helper()
	families, err := metrics.Registry.(prometheus.Gatherer).Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			label := ""
			if len(m.GetLabel()) > 0 {
				label = m.GetLabel()[0].GetValue()
			}
			found[label] = m.GetCounter().GetValue()
		}
	}
	return found
}

func TestPrefetch(t *testing.T) {
	images := map[string][]int64{prefix + "/shop:cart-1.side": {4}, prefix + "/shop:cart-1.main": {6}}
	huge := map[string][]int64{prefix + "/shop:cart-1.side": {1 << 20}}
	elsewhere := restoring(func(p *corev1.Pod) { p.Spec.NodeName = "node-2" })
	single := restoring(func(p *corev1.Pod) { p.Spec.InitContainers = nil })
	started, old := containerd.Start{}, containerd.Start{Time: time.Unix(1, 0)}
	tests := map[string]struct {
		pod    *corev1.Pod
		start  containerd.Start
		layers map[string][]int64
		// based is after how long the base images are there.
		based time.Duration
		// result is what is counted, none when the pod is not looked at; mebibytes is what was fetched.
		result    string
		mebibytes float64
	}{
		"all comes before the base images":         {restoring(), started, images, time.Minute, "whole", 10},
		"the base images are there first":          {restoring(), started, images, 7500 * time.Millisecond, "handed_over", 7},
		"they were there before":                   {restoring(), started, images, 0, "needless", 0},
		"the registry has no such image":           {restoring(), started, nil, time.Minute, "failed", 0},
		"more than any pod has":                    {restoring(), started, huge, time.Minute, "failed", 0},
		"a pod that is not restored any more":      {restoring(func(p *corev1.Pod) { p.Annotations = nil }), started, images, time.Minute, "needless", 0},
		"another pod of that name":                 {restoring(func(p *corev1.Pod) { p.UID = "uid-2" }), started, images, time.Minute, "needless", 0},
		"a pod that is elsewhere":                  {elsewhere, started, images, time.Minute, "needless", 0},
		"a pod that is gone":                       {restoring(func(p *corev1.Pod) { p.Name = "other" }), started, images, time.Minute, "failed", 0},
		"one that started long before the agent":   {restoring(), old, images, time.Minute, "", 0},
		"a pod whose checkpoint is a single image": {single, started, images, time.Minute, "whole", 6},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			before, bytes := count(t, "cryopod_agent_prefetches_total"), count(t, "cryopod_agent_prefetched_bytes_total")
			synctest.Test(t, func(t *testing.T) {
				n := &node{layers: tc.layers, based: time.Now().Add(tc.based)}
				start := tc.start
				start.UID, start.Namespace, start.Name = "uid-1", "shop", "cart"
				if start.Time.IsZero() {
					start.Time = time.Now()
				}
				n.starts = []containerd.Start{start}
				run(t, n, tc.pod, 2*time.Minute)
				if tc.mebibytes > 0 && n.kept < time.Minute {
					t.Errorf("what was fetched is kept for %v", n.kept)
				}
			})
			after, bytesAfter := count(t, "cryopod_agent_prefetches_total"), count(t, "cryopod_agent_prefetched_bytes_total")
			for _, result := range []string{"whole", "handed_over", "needless", "failed"} {
				want := 0.0
				if result == tc.result {
					want = 1
				}
				if got := after[result] - before[result]; got != want {
					t.Errorf("%v pods were counted as %s, want %v", got, result, want)
				}
			}
			if got := (bytesAfter[""] - bytes[""]) / (1 << 20); got != tc.mebibytes {
				t.Errorf("%v MiB were counted, want %v", got, tc.mebibytes)
			}
		})
	}
}

// run lets a prefetcher work for some time; each pod's start is told of three times.
func run(t *testing.T, n *node, pod client.Object, d time.Duration) {
	t.Helper()
	p := &prefetch.Prefetcher{
		Node: "node-1", Prefix: prefix, Registry: n, Store: n, Live: fake.NewClientBuilder().WithObjects(pod).Build(), Clock: clock.RealClock{},
		Starts: func(ctx context.Context, changed func()) error {
			for range 3 {
				changed()
				time.Sleep(10 * time.Millisecond)
			}
			<-ctx.Done()
			return ctx.Err()
		},
		Pulls: n.pulls,
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := p.Start(ctx); err != nil {
		t.Errorf("Start = %v", err)
	}
	synctest.Wait()
}

// TestTwoAtATime: a drained node's pods may come all at once.
func TestTwoAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{layers: map[string][]int64{prefix + "/shop:cart-1.main": {10}}, based: time.Now().Add(time.Hour)}
		pods := fake.NewClientBuilder()
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			pod := restoring(func(p *corev1.Pod) { p.Name, p.UID, p.Spec.InitContainers = name, types.UID(name), nil })
			pods = pods.WithObjects(pod)
			n.starts = append(n.starts, containerd.Start{UID: types.UID(name), Namespace: "shop", Name: name, Time: time.Now()})
		}
		p := &prefetch.Prefetcher{
			Node: "node-1", Prefix: prefix, Registry: n, Store: n, Live: pods.Build(), Clock: clock.RealClock{}, Pulls: n.pulls,
			Starts: func(ctx context.Context, changed func()) error {
				changed()
				<-ctx.Done()
				return ctx.Err()
			},
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		_ = p.Start(ctx)
		synctest.Wait()
		if n.widest != 2 || len(n.opened) != 5 {
			t.Errorf("%d layers were fetched, up to %d at a time; want 5, 2 at a time", len(n.opened), n.widest)
		}
	})
}
