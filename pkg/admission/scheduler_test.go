// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/admission"
)

func lease(age time.Duration, changes ...func(*coordinationv1.Lease)) *coordinationv1.Lease {
	l := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "scheduler"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To("a"), LeaseDurationSeconds: ptr.To(int32(15)), RenewTime: ptr.To(metav1.NewMicroTime(now.Add(-age))),
		},
	}
	for _, c := range changes {
		c(l)
	}
	return l
}

func heldBy(identity string) func(*coordinationv1.Lease) {
	return func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = ptr.To(identity) }
}

var leaseKey = client.ObjectKey{Namespace: "ns", Name: "scheduler"}

func TestSchedulerLease(t *testing.T) {
	tests := map[string]struct {
		lease  *coordinationv1.Lease
		holder string
		want   bool
	}{
		"held":               {lease: lease(time.Second), want: true},
		"leader is changing": {lease: lease(29 * time.Second), want: true},
		"left":               {lease: lease(30 * time.Second)},
		"given back":         {lease: lease(time.Second, heldBy(""))},
		"never held":         {lease: lease(time.Second, func(l *coordinationv1.Lease) { l.Spec = coordinationv1.LeaseSpec{} })},
		"none":               {lease: lease(time.Second, func(l *coordinationv1.Lease) { l.Name = "another" })},
		"held by ours":       {lease: lease(time.Second, heldBy("cryopod-scheduler-5d8_1")), holder: "cryopod-scheduler-", want: true},
		"held by another":    {lease: lease(time.Second, heldBy("control-plane_1")), holder: "cryopod-scheduler-"},
		"given back by ours": {lease: lease(time.Second, heldBy("")), holder: "cryopod-scheduler-"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.lease)
			s := admission.NewSchedulerLease(w.deps.Live, clocktesting.NewFakePassiveClock(now), leaseKey, tc.holder)
			if got := s.Ready(t.Context()); got != tc.want {
				t.Errorf("Ready = %t, want %t", got, tc.want)
			}
		})
	}
}

func TestSchedulerLeaseIsRemembered(t *testing.T) {
	w := newWorld(t, lease(0))
	c := clocktesting.NewFakePassiveClock(now)
	s := admission.NewSchedulerLease(w.deps.Live, c, leaseKey, "")
	for i, step := range []struct {
		at    time.Duration
		calls int
		ready bool
	}{{0, 1, true}, {2 * time.Second, 1, true}, {3 * time.Second, 2, true}, {31 * time.Second, 3, false}} {
		c.SetTime(now.Add(step.at))
		if got := s.Ready(t.Context()); got != step.ready || w.count("get") != step.calls {
			t.Errorf("step %d: Ready = %t after %d calls, want %t after %d", i, got, w.count("get"), step.ready, step.calls)
		}
	}
}
