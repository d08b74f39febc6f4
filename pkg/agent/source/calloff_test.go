// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func calledOff(pc *v1alpha1.PodCheckpoint) {
	meta.SetStatusCondition(&pc.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionCalledOff, Status: metav1.ConditionTrue, Reason: "CalledOff", Message: "the node stays",
	})
}

// TestCalledOff has a controller call the attempt off at every moment of its life. The pod goes on at once, and only after that is written; not
// where it was deleted, or another pod goes on from the checkpoint.
func TestCalledOff(t *testing.T) {
	released := func(t *testing.T, n *node) {
		t.Helper()
		pc := n.checkpoint()
		ready := meta.FindStatusCondition(pc.Status.Conditions, v1alpha1.ConditionReady)
		if pc.Status.Phase != v1alpha1.PhaseReleased || !strings.Contains(pc.Status.Message, "called off: the node stays") ||
			ready == nil || ready.Reason != v1alpha1.ReasonCalledOff {
			t.Errorf("%s: %q, %+v", pc.Status.Phase, pc.Status.Message, ready)
		}
		if n.state() != "running" {
			t.Errorf("the pod is %s", n.state())
		}
		if archives, pushed := n.left(); len(archives)+len(pushed) > 0 || len(openLedger(t, n).All()) > 0 {
			t.Errorf("archives %v, images %v, ledger %v are left", archives, pushed, openLedger(t, n).All())
		}
	}
	t.Run("before it begins", func(t *testing.T) {
		n := newNode(t, nil)
		n.patchStatus(calledOff)
		n.live(0).step()
		released(t, n)
	})
	t.Run("while it is dumped", func(t *testing.T) {
		n := newNode(t, nil)
		a := n.live(0)
		hanging := &hangingDumper{began: make(chan struct{}, 2)}
		a.Dumper = hanging
		a.step()
		await(a, hanging.began)
		n.patchStatus(calledOff)
		a.failOn["nothing"] = nil // The clock has to run: the first write meets the one that called it off.
		a.step()
		await(a, a.woken)
		a.step()
		released(t, n)
	})
	t.Run("when it is Ready", func(t *testing.T) {
		n := newNode(t, nil)
		a := n.live(0)
		a.save()
		n.patchStatus(calledOff)
		a.step()
		released(t, n)
	})
	t.Run("when it is Ready, and that can't be written", func(t *testing.T) {
		n := newNode(t, nil)
		a := n.live(0)
		a.save()
		n.patchStatus(calledOff)
		a.failOn["write Released"] = context.DeadlineExceeded
		a.step()
		if n.state() != "frozen" {
			t.Errorf("the pod is %s", n.state())
		}
	})
	t.Run("when its pod was deleted", func(t *testing.T) {
		n := newNode(t, nil)
		a := n.live(0)
		a.save()
		n.patchStatus(calledOff)
		n.deletePod()
		a.step()
		if n.state() != "frozen" || n.checkpoint().Status.Phase != v1alpha1.PhaseReady {
			t.Errorf("the pod is %s, the checkpoint %s", n.state(), n.checkpoint().Status.Phase)
		}
	})
	t.Run("when it is claimed", func(t *testing.T) {
		n := newNode(t, nil)
		a := n.live(0)
		a.save()
		n.patchStatus(calledOff)
		n.deletePod()
		n.claim()
		a.step()
		if n.state() != "frozen" {
			t.Errorf("the pod is %s", n.state())
		}
	})
}
