// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	fencefake "github.com/cryopod/cryopod/pkg/agent/fence/fake"
	"github.com/cryopod/cryopod/pkg/agent/source"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// crowd is a node with many pods, and what a controller does with their PodCheckpoints. It lives in a bubble of testing/synctest, in which
// time passes only while everybody waits: a dump and a push take as long as the pod's memory takes at rate.
type crowd struct {
	t     *testing.T
	r     *source.Reconciler
	api   client.WithWatch
	fence *fencefake.Fence
	wake  chan types.NamespacedName
	due   map[types.NamespacedName]time.Time

	dir     string
	rate    int64         // bytes a second, of dump and push each
	latency time.Duration // what each of them takes besides

	mu       sync.Mutex
	memory   map[string]int64 // container ID → bytes
	archives map[string]int64 // container ID → bytes, where it is not the memory
	dumping  map[string]bool
	pushing  map[string]bool
	order    []string
	most     int   // the most pods that were under way at once
	mostDisk int64 // the most disk that dumps took at once
	gets     int   // reads past the cache
}

func newCrowd(t *testing.T, rate int64) *crowd {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	ledger, err := fence.OpenLedger(filepath.Join(t.TempDir(), "frozen.json"))
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{
		t: t, fence: &fencefake.Fence{}, wake: make(chan types.NamespacedName, 4096), due: map[types.NamespacedName]time.Time{}, rate: rate, dir: t.TempDir(),
		memory: map[string]int64{}, archives: map[string]int64{}, dumping: map[string]bool{}, pushing: map[string]bool{},
		api: fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.PodCheckpoint{}).Build(),
	}
	live := interceptor.NewClient(c.api, interceptor.Funcs{
		Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			c.mu.Lock()
			c.gets++
			c.mu.Unlock()
			return w.Get(ctx, key, o, opts...)
		},
	})
	c.r = &source.Reconciler{
		Client: c.api, Live: live, Fence: c.fence, Ledger: ledger, Dumper: crowdDumper{c}, Exporter: crowdExporter{c}, Recorder: silence{},
		Requirements: func() *v1alpha1.Requirements { return nil }, Clock: clock.RealClock{}, MaxParallel: 2, Usage: c,
		Wake: func(key types.NamespacedName) { c.wake <- key },
	}
	return c
}

// AnonymousMemory implements source.Usage.
func (c *crowd) AnonymousMemory(_ context.Context, id string) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bytes, known := c.memory[id]
	if !known {
		return 0, errors.New("not known")
	}
	return bytes, nil
}

// add adds a pod of that much memory and its PodCheckpoint.
func (c *crowd) add(name string, bytes int64, change func(*v1alpha1.PodCheckpointSpec)) {
	c.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)},
		Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: name, Image: "app:1"}}},
		Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{running(name, "app@sha256:bb")}},
	}
	if err := c.api.Create(c.t.Context(), pod); err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.memory["id-"+name] = bytes
	c.mu.Unlock()
	c.fence.Set("id-"+name, fence.Running)
	c.again(name, name, change)
}

// again adds a PodCheckpoint of a pod that is there.
func (c *crowd) again(name, pod string, change func(*v1alpha1.PodCheckpointSpec)) {
	c.t.Helper()
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("pc-" + name), CreationTimestamp: metav1.Now()},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: pod, PodUID: types.UID("uid-" + pod), NodeName: "node-1", Reason: v1alpha1.ReasonEviction, Fence: true,
		},
	}
	if change != nil {
		change(&pc.Spec)
	}
	if err := c.api.Create(c.t.Context(), pc); err != nil {
		c.t.Fatal(err)
	}
	c.wake <- client.ObjectKeyFromObject(pc)
}

// within is a deadline from now.
func within(d time.Duration) func(*v1alpha1.PodCheckpointSpec) {
	return func(s *v1alpha1.PodCheckpointSpec) { s.Deadline = new(metav1.NewTime(time.Now().Add(d))) }
}

// work does what a controller does, for so long.
func (c *crowd) work(span time.Duration) {
	c.t.Helper()
	end := time.After(span)
	for {
		next := time.Now().Add(time.Hour)
		for key, due := range c.due {
			if !due.After(time.Now()) {
				delete(c.due, key)
				c.reconcile(key)
			}
		}
		for _, due := range c.due {
			if due.Before(next) {
				next = due
			}
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-end:
			timer.Stop()
			return
		case key := <-c.wake:
			c.reconcile(key)
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (c *crowd) reconcile(key types.NamespacedName) {
	c.t.Helper()
	result, err := c.r.Reconcile(c.t.Context(), ctrl.Request{NamespacedName: key})
	if err != nil {
		c.t.Errorf("Reconcile(%s) = %v", key, err)
	}
	if result.RequeueAfter > 0 {
		c.due[key] = time.Now().Add(result.RequeueAfter)
	}
}

func (c *crowd) get(name string) *v1alpha1.PodCheckpoint {
	c.t.Helper()
	pc := &v1alpha1.PodCheckpoint{}
	if err := c.api.Get(c.t.Context(), types.NamespacedName{Namespace: "ns", Name: name}, pc); err != nil {
		c.t.Fatal(err)
	}
	return pc
}

// expect fails the test unless the checkpoint is in the phase, and says so with the reason.
func (c *crowd) expect(name string, phase v1alpha1.Phase, reason, says string) {
	c.t.Helper()
	pc := c.get(name)
	got := ""
	if condition := meta.FindStatusCondition(pc.Status.Conditions, v1alpha1.ConditionReady); condition != nil {
		got = condition.Reason
	}
	if pc.Status.Phase != phase || got != reason || !strings.Contains(pc.Status.Message, says) {
		c.t.Errorf("%s is %q, reason %q: %q; want %q, reason %q, with %q", name, pc.Status.Phase, got, pc.Status.Message, phase, reason, says)
	}
}

// begun reports whether the pod was ever dumped, or tried to.
func (c *crowd) begun(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.order, name)
}

// take counts what is under way. c.mu is held.
func (c *crowd) take() {
	c.most = max(c.most, len(c.dumping)+len(c.pushing))
	c.mostDisk = max(c.mostDisk, c.disk())
}

// disk is what the dumps really take: four copies while dumping, then one.
func (c *crowd) disk() int64 {
	var sum int64
	for id := range c.dumping {
		sum += 4 * c.memory[id]
	}
	for id := range c.pushing {
		sum += c.memory[id]
	}
	return sum
}

// spend is how long a stage takes at a rate that all in it share. It looks again whenever a tenth of a second has passed.
func (c *crowd) spend(ctx context.Context, id string, stage map[string]bool) error {
	const tick = 100 * time.Millisecond
	c.mu.Lock()
	left := float64(c.memory[id])
	if size, other := c.archives[id]; other {
		left = float64(size)
	}
	c.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(c.latency):
	}
	for left > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tick):
		}
		c.mu.Lock()
		left -= float64(c.rate) * tick.Seconds() / float64(len(stage))
		c.mu.Unlock()
	}
	return nil
}

type crowdDumper struct{ c *crowd }

func (d crowdDumper) Dump(ctx context.Context, _, _ string, container fence.Container) (string, error) {
	c := d.c
	c.mu.Lock()
	c.order = append(c.order, container.Name)
	c.dumping[container.ID] = true
	c.take()
	c.mu.Unlock()
	err := c.spend(ctx, container.ID, c.dumping)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.dumping, container.ID)
	path := filepath.Join(c.dir, container.Name)
	if size, other := c.archives[container.ID]; other {
		err = errors.Join(err, os.WriteFile(path, nil, 0o600), os.Truncate(path, size))
	}
	return path, err
}

type crowdExporter struct{ c *crowd }

func (e crowdExporter) Export(ctx context.Context, p source.Part) (v1alpha1.ContainerCheckpoint, error) {
	c := e.c
	c.mu.Lock()
	c.pushing[p.Container.ID] = true
	c.take()
	c.mu.Unlock()
	err := c.spend(ctx, p.Container.ID, c.pushing)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pushing, p.Container.ID)
	return v1alpha1.ContainerCheckpoint{Name: p.Container.Name, Image: fmt.Sprintf("reg/ns@sha256:%s", p.Container.Name)}, err
}

func (crowdExporter) Clean(context.Context, string, string, time.Time, time.Time) error {
	return nil
}

func (crowdExporter) Withdraw(context.Context, types.NamespacedName, []string) error { return nil }

type silence struct{}

func (silence) Event(*v1alpha1.PodCheckpoint, bool, string, string) {}
