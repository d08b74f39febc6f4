// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	// leaseMemory is how long one look at the scheduler's Lease counts.
	leaseMemory = 3 * time.Second

	// leaseSlack is how many of its own durations a Lease may be old: a change of leader takes somewhat more than one.
	leaseSlack = 2
)

// SchedulerLease tells by its Lease whether Cryopod's scheduler runs. It may be used from many goroutines at once.
type SchedulerLease struct {
	live  client.Reader
	clock clock.PassiveClock
	key   client.ObjectKey
	// holder is how the identity of Cryopod's scheduler begins.
	holder string

	mu    sync.Mutex
	asked time.Time
	ready bool
}

// NewSchedulerLease makes one for the Lease of that name. Where schedulers without Cryopod's profile stand for the same Lease, holder is how
// the identities of those with it begin (kube-scheduler's begin with the host's name, which is the pod's); empty is anybody's.
func NewSchedulerLease(live client.Reader, c clock.PassiveClock, key client.ObjectKey, holder string) *SchedulerLease {
	return &SchedulerLease{live: live, clock: c, key: key, holder: holder}
}

// Ready tells whether Cryopod's scheduler has held the Lease of late. It is false when the Lease can't be read.
func (s *SchedulerLease) Ready(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if !s.asked.IsZero() && now.Sub(s.asked) < leaseMemory {
		return s.ready
	}
	var lease coordinationv1.Lease
	err := s.live.Get(ctx, s.key, &lease)
	if client.IgnoreNotFound(err) != nil {
		logf.FromContext(ctx).Error(err, "Taking the scheduler for absent")
	}
	s.asked, s.ready = now, err == nil && leaseHeld(&lease, s.holder, now)
	return s.ready
}

func leaseHeld(lease *coordinationv1.Lease, by string, now time.Time) bool {
	holder := ptr.Deref(lease.Spec.HolderIdentity, "")
	if holder == "" || !strings.HasPrefix(holder, by) || lease.Spec.RenewTime == nil || lease.Spec.LeaseDurationSeconds == nil {
		return false
	}
	duration := time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second
	return now.Sub(lease.Spec.RenewTime.Time) < leaseSlack*duration
}
