// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// TestCrash kills the agent before each single effect of a checkpoint's life and starts another one. Wherever it died, no pod is
// thawed before that is written (see mortalFence.Thaw), and in the end either the checkpoint is Ready and the pod frozen, or it
// can't be claimed, the pod runs and nothing is left.
func TestCrash(t *testing.T) {
	total := func() int {
		n := newNode(t, nil)
		a := n.live(0)
		a.save()
		n.clock.Step(31 * time.Second)
		a.step()
		if got := n.checkpoint().Status.Phase; got != v1alpha1.PhaseReleased || n.state() != "running" {
			t.Fatalf("without a crash: %s, %s", got, n.state())
		}
		return a.count
	}()
	if total < 12 {
		t.Fatalf("only %d effects in a whole life", total)
	}
	for fatal := 1; fatal <= total; fatal++ {
		t.Run(fmt.Sprintf("before effect %d", fatal), func(t *testing.T) {
			n := newNode(t, nil)
			first := n.live(fatal)
			first.save()
			if !first.dead() {
				n.clock.Step(31 * time.Second)
				first.step()
			}
			if !first.dead() {
				t.Fatal("the agent survived")
			}
			second := n.live(0)
			pending := n.checkpoint().Status.Phase == ""
			if pending {
				second.save()
			} else {
				second.step()
			}
			n.clock.Step(31 * time.Second)
			second.step()
			check(t, n)
		})
	}
}

func check(t *testing.T, n *node) {
	t.Helper()
	pc := n.checkpoint()
	if !pc.Status.Phase.Final() {
		t.Fatalf("the checkpoint is %s", pc.Status.Phase)
	}
	if got := n.state(); got != "running" {
		t.Errorf("the pod is %s after %s", got, pc.Status.Phase)
	}
	if archives, pushed := n.left(); len(archives) != 0 || len(pushed) != 0 {
		t.Errorf("archives %v and images %v are left after %s", archives, pushed, pc.Status.Phase)
	}
	if entries := openLedger(t, n).All(); len(entries) != 0 {
		t.Errorf("the ledger still has %v", entries)
	}
}

func openLedger(t *testing.T, n *node) *fence.Ledger {
	t.Helper()
	l, err := fence.OpenLedger(n.ledger)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestCrashAndClaim has the checkpoint claimed while no agent lives: the next one must leave the pod frozen for ever.
func TestCrashAndClaim(t *testing.T) {
	n := newNode(t, nil)
	n.live(0).save()
	n.deletePod()
	n.claim()
	a := n.live(0)
	for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseClaimed, v1alpha1.PhaseRestored, v1alpha1.PhaseFailed} {
		n.patchStatus(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Phase = phase })
		n.clock.Step(time.Hour)
		if result := a.step(); result.RequeueAfter == 0 {
			t.Errorf("%s: the agent does not look again although the processes are still there", phase)
		}
		if got := n.state(); got != "frozen" {
			t.Fatalf("%s: the pod is %s", phase, got)
		}
	}
	for _, id := range ids {
		n.fence.Set(id, fence.Gone)
	}
	a.step()
	if entries := openLedger(t, n).All(); len(entries) != 0 {
		t.Errorf("the ledger still has %v of a pod that is gone", entries)
	}
}

// TestCheckpointDeleted covers a PodCheckpoint that somebody removed while its pod is frozen.
func TestCheckpointDeleted(t *testing.T) {
	tests := map[string]struct {
		pod  func(*node)
		want string
	}{
		"the pod was never deleted: nobody can have claimed it": {func(*node) {}, "running"},
		"the pod is gone: somebody may have":                    {func(n *node) { n.deletePod() }, "frozen"},
		"the pod is another one": {func(n *node) {
			n.deletePod()
			other := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "other"}}
			if err := n.api.Create(n.t.Context(), other); err != nil {
				n.t.Fatal(err)
			}
		}, "frozen"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nil)
			n.live(0).save()
			if err := n.api.Delete(t.Context(), n.checkpoint()); err != nil {
				t.Fatal(err)
			}
			tc.pod(n)
			n.live(0).step()
			if got := n.state(); got != tc.want {
				t.Errorf("the pod is %s, want %s", got, tc.want)
			}
		})
	}
}

// TestCheckpointDeletedAfterADump leaves no archive on the node for ever.
func TestCheckpointDeletedAfterADump(t *testing.T) {
	n := newNode(t, nil)
	n.live(7).save()
	if archives, _ := n.left(); len(archives) != 2 {
		t.Fatalf("archives %v, want both containers'", archives)
	}
	if err := n.api.Delete(t.Context(), n.checkpoint()); err != nil {
		t.Fatal(err)
	}
	n.live(0).step()
	if archives, _ := n.left(); len(archives) != 0 || n.state() != "running" {
		t.Errorf("archives %v are left, the pod is %s", archives, n.state())
	}
}

// TestCrashFrozenByOthers kills the agent between two freezes: the next one knows from the ledger what is not its own to thaw.
func TestCrashFrozenByOthers(t *testing.T) {
	n := newNode(t, nil)
	n.fence.Set("id-side", fence.Frozen)
	n.live(3).save()
	n.live(0).step()
	if n.fence.Get("id-app") != fence.Running || n.fence.Get("id-side") != fence.Frozen {
		t.Errorf("app is %v, side is %v; want only what was frozen by us to run", n.fence.Get("id-app"), n.fence.Get("id-side"))
	}
}
