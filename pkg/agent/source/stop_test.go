// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// stop ends the agent, while the clock runs. It calls meanwhile once, when the agent has begun to wait, and tells how long the end took.
func (a *agent) stop(ctx context.Context, meanwhile func()) time.Duration {
	a.n.t.Helper()
	begin := a.n.clock.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Stop(ctx)
	}()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case <-done:
			return a.n.clock.Since(begin)
		case <-deadline:
			a.n.t.Fatal("the agent does not end")
		case <-time.After(time.Millisecond):
			if !a.n.clock.HasWaiters() {
				continue
			}
			if meanwhile != nil {
				meanwhile()
				meanwhile = nil
			}
			a.n.clock.Step(100 * time.Millisecond)
		}
	}
}

func TestStop(t *testing.T) {
	claimed := func(n *node) { n.deletePod(); n.claim() }
	tests := map[string]struct {
		then, meanwhile func(*node)
		phase           v1alpha1.Phase
		state           string
		took            time.Duration
	}{
		"nobody deletes the pod": {nil, func(*node) {}, v1alpha1.PhaseReleased, "running", 6 * time.Second},
		"the fence ends before":  {func(n *node) { n.clock.Step(28 * time.Second) }, nil, v1alpha1.PhaseReleased, "running", 2 * time.Second},
		"the pod was deleted":    {(*node).deletePod, nil, v1alpha1.PhaseReady, "frozen", 0},
		"the pod was replaced":   {claimed, nil, v1alpha1.PhaseClaimed, "frozen", 0},
		"the pod is deleted":     {nil, (*node).deletePod, v1alpha1.PhaseReady, "frozen", 500 * time.Millisecond},
		"the pod is replaced":    {nil, claimed, v1alpha1.PhaseClaimed, "frozen", 500 * time.Millisecond},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nil)
			a := n.live(0)
			a.save()
			if tc.then != nil {
				tc.then(n)
			}
			var meanwhile func()
			if tc.meanwhile != nil {
				meanwhile = func() { tc.meanwhile(n) }
			}
			took := a.stop(t.Context(), meanwhile)
			if got := n.checkpoint().Status.Phase; got != tc.phase || n.state() != tc.state {
				t.Errorf("%s and %s, want %s and %s", got, n.state(), tc.phase, tc.state)
			}
			if took != tc.took {
				t.Errorf("the end took %s, want %s", took, tc.took)
			}
			if tc.phase == v1alpha1.PhaseReleased {
				check(t, n)
			}
		})
	}
}

func TestStopDuringADump(t *testing.T) {
	n := newNode(t, nil)
	a := n.live(0)
	hanging := &hangingDumper{began: make(chan struct{}, 2)}
	a.Dumper = hanging
	a.step()
	await(a, hanging.began)
	a.Stop(t.Context())
	check(t, n)
	if got := n.checkpoint().Status.Message; !strings.Contains(got, "being stopped") {
		t.Errorf("message %q", got)
	}
}

// slowRegistry removes nothing before its context ends, and tells that it was asked.
type slowRegistry struct {
	exporter
	asked func()
}

func (s slowRegistry) Withdraw(ctx context.Context, _ types.NamespacedName, _ []string) error {
	s.asked()
	<-ctx.Done()
	return ctx.Err()
}

// addReady adds a second pod, frozen by a checkpoint that is Ready since now.
func (a *agent) addReady() {
	a.n.t.Helper()
	n := a.n
	n.fence.Set("id-other", fence.Frozen)
	pc := n.checkpoint()
	pc.ObjectMeta = metav1.ObjectMeta{Namespace: key.Namespace, Name: "other-1", UID: "pc-2"}
	pc.Spec.PodName, pc.Spec.PodUID = "other", "pod-2"
	pc.Status = v1alpha1.PodCheckpointStatus{}
	pc.Status.Enter(v1alpha1.PhaseReady, "", n.clock.Now())
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: "other", UID: "pod-2"}}
	entry := fence.Entry{
		Checkpoint: client.ObjectKeyFromObject(pc), CheckpointUID: "pc-2", Pod: "other", PodUID: "pod-2",
		Containers: []fence.Container{{Name: "app", ID: "id-other"}}, Since: n.clock.Now(),
	}
	if err := errors.Join(n.api.Create(n.t.Context(), pc), n.api.Create(n.t.Context(), pod), a.Ledger.Put(entry)); err != nil {
		n.t.Fatal(err)
	}
}

// TestStopThawsFirst has a registry that does not answer: it keeps no pod waiting, and the next agent removes what is left.
func TestStopThawsFirst(t *testing.T) {
	n := newNode(t, nil)
	a := n.live(0)
	a.save()
	n.clock.Step(30 * time.Second)
	a.addReady()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a.Exporter = slowRegistry{exporter: exporter{a}, asked: func() {
		if n.state() != "running" || n.fence.Get("id-other") != fence.Running {
			t.Errorf("the registry is asked while the pods are %s and %v", n.state(), n.fence.Get("id-other"))
		}
		cancel()
	}}
	a.stop(ctx, nil)
	entries := openLedger(t, n).All()
	if len(entries) == 0 || entries[0].Checkpoint != key {
		t.Errorf("the ledger has %v; want what is left to do", entries)
	}
	next := n.live(0)
	for _, entry := range entries {
		if _, err := next.Reconcile(t.Context(), ctrl.Request{NamespacedName: entry.Checkpoint}); err != nil {
			t.Fatal(err)
		}
	}
	check(t, n)
}
