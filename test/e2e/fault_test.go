// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/test/e2e/chaos/fault"
)

// faultTimeout bounds one fault: to make it, to see it, and to end it.
const faultTimeout = 90 * time.Second

// TestFaults makes every fault that the attack draws from, each of which sees itself that it has its effect, and ends it. Afterwards
// everything is as it was: a pod moves.
func TestFaults(t *testing.T) {
	s := newScene(t, "faults", nil, "main")
	container := s.Stepper(s.name, "main", fmt.Sprintf("-health=:%d", probePort))
	// So patient that no fault comes to it.
	container.LivenessProbe = &corev1.Probe{ProbeHandler: httpProbe, PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: 300}
	s.create(s.Deployment(s.name, s.Template(s.name, container)))
	before := s.settle()
	target := &fault.Target{Bed: testbed, Node: before.Spec.NodeName, Namespace: s.Namespace}
	for _, f := range fault.All() {
		t.Run(f.Name, func(t *testing.T) { makeFault(t, target, f) })
	}
	ctx, cancel := s.within(faultTimeout)
	defer cancel()
	if err := fault.Calm(ctx, testbed); err != nil {
		t.Fatal(err)
	}
	s.checkMoved(before, s.drain(before), 1)
	s.checkNeverRestarted()
}

func makeFault(t *testing.T, target *fault.Target, f fault.Fault) {
	ctx, cancel := context.WithTimeout(t.Context(), faultTimeout)
	defer cancel()
	begun := time.Now()
	undo, detail, err := f.Do(ctx, target, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	made := time.Since(begun)
	// Once more than needed: it has to stand that.
	for range 2 {
		if undo == nil {
			break
		}
		if err := undo(ctx); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("made in %.2f s, ended after %.2f s: %s", made.Seconds(), time.Since(begun).Seconds(), detail)
}
