// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	fencefake "github.com/cryopod/cryopod/pkg/agent/fence/fake"
	"github.com/cryopod/cryopod/pkg/agent/source"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

var (
	key   = types.NamespacedName{Namespace: "ns", Name: "web-1"}
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ids   = []string{"id-side", "id-app"}
)

// errDead is what every effect of an agent that was killed comes to.
var errDead = errors.New("the agent is dead")

// node is a node with one pod of two containers, and the API that outlives its agents.
type node struct {
	t      *testing.T
	api    client.WithWatch
	fence  *fencefake.Fence
	ledger string
	clock  *clocktesting.FakeClock

	saved []byte // the ledger as it was when the last agent died

	mu       sync.Mutex
	archives map[string]bool
	pushed   map[string]bool
	events   []string
}

func newNode(t *testing.T, mutate func(*v1alpha1.PodCheckpoint, *corev1.Pod)) *node {
	t.Helper()
	n := &node{
		t: t, fence: &fencefake.Fence{}, ledger: filepath.Join(t.TempDir(), "frozen.json"), clock: clocktesting.NewFakeClock(start),
		archives: map[string]bool{}, pushed: map[string]bool{},
	}
	for _, id := range ids {
		n.fence.Set(id, fence.Running)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "pod-uid", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "rs-uid", Controller: new(true)},
		}},
		Spec: corev1.PodSpec{
			NodeName:       "node-1",
			InitContainers: []corev1.Container{{Name: "side", Image: "side:1", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}},
			Containers:     []corev1.Container{{Name: "app", Image: "app:1"}},
		},
		Status: corev1.PodStatus{
			InitContainerStatuses: []corev1.ContainerStatus{running("side", "side@sha256:aa")},
			ContainerStatuses:     []corev1.ContainerStatus{running("app", "app@sha256:bb")},
		},
	}
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: "pc-uid", CreationTimestamp: metav1.NewTime(start)},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: "web", PodUID: "pod-uid", NodeName: "node-1", Reason: v1alpha1.ReasonEviction, Fence: true, FenceSeconds: 30, MaxFreezeSeconds: 60,
		},
	}
	if mutate != nil {
		mutate(pc, pod)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	n.api = fake.NewClientBuilder().WithScheme(scheme).WithObjects(pod, pc).WithStatusSubresource(&v1alpha1.PodCheckpoint{}).Build()
	return n
}

func running(name, imageID string) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: name, ImageID: imageID, ContainerID: "containerd://id-" + name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}
}

// checkpoint reads the PodCheckpoint; nil when it is gone.
func (n *node) checkpoint() *v1alpha1.PodCheckpoint {
	n.t.Helper()
	pc := &v1alpha1.PodCheckpoint{}
	if err := n.api.Get(context.Background(), key, pc); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return nil
		}
		n.t.Fatal(err)
	}
	return pc
}

// patchStatus is what somebody else writes.
func (n *node) patchStatus(change func(*v1alpha1.PodCheckpoint)) {
	n.t.Helper()
	pc := n.checkpoint()
	change(pc)
	if err := n.api.Status().Update(context.Background(), pc); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) deletePod() {
	n.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}}
	if err := n.api.Delete(context.Background(), pod); err != nil {
		n.t.Fatal(err)
	}
}

// claim is what the webhook writes when a replacement is made.
func (n *node) claim() {
	n.t.Helper()
	n.patchStatus(func(pc *v1alpha1.PodCheckpoint) {
		pc.Status.Phase = v1alpha1.PhaseClaimed
		pc.Status.Claim = &v1alpha1.Claim{ID: "1", Time: metav1.NewMicroTime(start)}
	})
}

// state is what the pod's containers do: one word when all do the same.
func (n *node) state() string {
	words := map[fence.State]string{fence.Running: "running", fence.Frozen: "frozen", fence.Gone: "gone"}
	first := n.fence.Get(ids[0])
	for _, id := range ids[1:] {
		if n.fence.Get(id) != first {
			return "mixed"
		}
	}
	return words[first]
}

// agent is one life of the agent. Its effects are counted; from the fatal one on it is dead: none takes effect any more.
type agent struct {
	*source.Reconciler
	n      *node
	woken  chan types.NamespacedName
	mu     sync.Mutex
	count  int
	fatal  int
	died   bool
	failOn map[string]error
	// meanwhile is called during each export.
	meanwhile func()
	// dumped is called after each dump.
	dumped func()
}

// effect counts one and says what becomes of it.
func (a *agent) effect(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count++
	if !a.died && a.fatal > 0 && a.count >= a.fatal {
		a.died = true
		a.n.saved, _ = os.ReadFile(a.n.ledger)
	}
	if a.died {
		return errDead
	}
	return a.failOn[name]
}

func (a *agent) dead() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.died
}

// live begins a life that ends at its fatal-th effect; 0 means it does not end.
func (n *node) live(fatal int) *agent {
	n.t.Helper()
	a := &agent{n: n, fatal: fatal, woken: make(chan types.NamespacedName, 100), failOn: map[string]error{}}
	if n.saved != nil {
		// What a dead agent's program still did to the file did not happen.
		if err := os.WriteFile(n.ledger, n.saved, 0o600); err != nil {
			n.t.Fatal(err)
		}
		n.saved = nil
	}
	ledger, err := fence.OpenLedger(n.ledger)
	if err != nil {
		n.t.Fatal(err)
	}
	api := interceptor.NewClient(n.api, interceptor.Funcs{
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, obj client.Object, opts ...client.SubResourceUpdateOption) error {
			phase := obj.(*v1alpha1.PodCheckpoint).Status.Phase
			if err := ctx.Err(); err != nil {
				return err // as a real client does
			}
			if err := a.effect("write " + string(phase)); err != nil {
				return err
			}
			return c.SubResource(sub).Update(ctx, obj, opts...)
		},
	})
	a.Reconciler = &source.Reconciler{
		Client: api, Live: api, Fence: mortalFence{a}, Ledger: ledger, Dumper: dumper{a}, Exporter: exporter{a}, Recorder: recorder{n},
		Requirements: func() *v1alpha1.Requirements { return &v1alpha1.Requirements{Arch: "amd64"} },
		Clock:        n.clock, MaxParallel: 1,
		Wake: func(k types.NamespacedName) { a.woken <- k },
	}
	return a
}

// step reconciles once. It does not wait for an attempt that it began.
func (a *agent) step() ctrl.Result {
	a.n.t.Helper()
	var result ctrl.Result
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		result, err = a.Reconcile(a.n.t.Context(), ctrl.Request{NamespacedName: key})
	}()
	await(a, done)
	if err != nil && !a.dead() && len(a.failOn) == 0 {
		a.n.t.Fatalf("Reconcile: %v", err)
	}
	return result
}

// save reconciles a Pending checkpoint and waits until its attempt has ended, then reconciles again as the wake-up would.
func (a *agent) save() ctrl.Result {
	a.n.t.Helper()
	a.step()
	await(a, a.woken)
	return a.step()
}

// await waits for something to happen. Meanwhile the clock runs for whoever waits for the API server.
func await[T any](a *agent, happens <-chan T) {
	a.n.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case <-happens:
			return
		case <-deadline:
			a.n.t.Fatal("nothing happens any more")
		case <-time.After(time.Millisecond):
			if a.dead() || len(a.failOn) > 0 {
				a.n.clock.Step(time.Second)
			}
		}
	}
}

type mortalFence struct{ a *agent }

func (f mortalFence) State(ctx context.Context, id string) (fence.State, error) {
	return f.a.n.fence.State(ctx, id)
}

func (f mortalFence) Freeze(ctx context.Context, id string) error {
	if err := f.a.effect("freeze"); err != nil {
		return err
	}
	return f.a.n.fence.Freeze(ctx, id)
}

// Thaw fails the test when the checkpoint could still be claimed, or was. One without a fence can be while its pod lives only by those who
// know that it does not.
func (f mortalFence) Thaw(ctx context.Context, id string) error {
	if err := f.a.effect("thaw"); err != nil {
		return err
	}
	if pc := f.a.n.checkpoint(); pc != nil && pc.Spec.Fence && f.a.n.fence.Get(id) == fence.Frozen {
		if !pc.Status.Phase.Final() || pc.Status.Claim != nil {
			f.a.n.t.Errorf("thawed %q while the checkpoint is %s with claim %v", id, pc.Status.Phase, pc.Status.Claim)
		}
	}
	return f.a.n.fence.Thaw(ctx, id)
}

type dumper struct{ a *agent }

func (d dumper) Dump(_ context.Context, _, _ string, c fence.Container) (string, error) {
	if err := d.a.effect("dump"); err != nil {
		return "", err
	}
	n := d.a.n
	if got := n.state(); got != "frozen" {
		n.t.Errorf("container %q is dumped while the pod is %s", c.Name, got)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.archives[c.Name] = true
	if d.a.dumped != nil && len(n.archives) == len(ids) {
		d.a.dumped()
	}
	return "/archives/" + c.Name, nil
}

type exporter struct{ a *agent }

func (e exporter) Export(ctx context.Context, p source.Part) (v1alpha1.ContainerCheckpoint, error) {
	n := e.a.n
	if err := e.a.effect("export"); err != nil {
		return v1alpha1.ContainerCheckpoint{}, err
	}
	if e.a.meanwhile != nil {
		e.a.meanwhile()
		if err := ctx.Err(); err != nil {
			return v1alpha1.ContainerCheckpoint{}, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.archives, p.Container.Name)
	n.pushed[p.Container.Name] = true
	return v1alpha1.ContainerCheckpoint{
		Name: p.Container.Name, Image: "reg/ns@sha256:" + p.Container.Name, ImageTag: "reg/ns:web-1." + p.Container.Name, Bytes: 2 << 20, PushedBytes: 1 << 20,
	}, nil
}

func (e exporter) Clean(context.Context, string, string, time.Time, time.Time) error {
	if err := e.a.effect("clean"); err != nil {
		return err
	}
	e.a.n.mu.Lock()
	defer e.a.n.mu.Unlock()
	clear(e.a.n.archives)
	return nil
}

func (e exporter) Withdraw(_ context.Context, _ types.NamespacedName, containers []string) error {
	if err := e.a.effect("withdraw"); err != nil {
		return err
	}
	e.a.n.mu.Lock()
	defer e.a.n.mu.Unlock()
	for _, c := range containers {
		delete(e.a.n.pushed, c)
	}
	return nil
}

type recorder struct{ n *node }

func (r recorder) Event(_ *v1alpha1.PodCheckpoint, _ bool, reason, note string) {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	r.n.events = append(r.n.events, reason+": "+note)
}

func (n *node) reasons() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []string
	for _, e := range n.events {
		var reason string
		_, _ = fmt.Sscanf(e, "%s", &reason)
		all = append(all, reason[:len(reason)-1])
	}
	return all
}

func (n *node) left() (archives, pushed []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name := range n.archives {
		archives = append(archives, name)
	}
	for name := range n.pushed {
		pushed = append(pushed, name)
	}
	slices.Sort(archives)
	slices.Sort(pushed)
	return archives, pushed
}

// hangingDumper tells when a dump begins, and hangs until it is cancelled.
type hangingDumper struct{ began chan struct{} }

func (d *hangingDumper) Dump(ctx context.Context, _, _ string, _ fence.Container) (string, error) {
	d.began <- struct{}{}
	<-ctx.Done()
	return "", ctx.Err()
}
