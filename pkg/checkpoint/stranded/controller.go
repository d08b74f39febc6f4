// SPDX-License-Identifier: Apache-2.0

// Package stranded replaces pods that wait for Cryopod's scheduler when that is away. The webhook sends opted-in pods there, as long as its
// Lease is held; which scheduler a pod waits for can't be changed later. So those that were made in the half minute before the Lease is known
// to be old, and those that were waiting for room, would wait for as long as it stays away. The pods that their owners make in their stead go
// to the cluster's own scheduler.
package stranded

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/removal"
)

// Name is the controller's name.
const Name = "checkpoint.stranded"

// Why is what is told about a pod that is replaced.
const Why = "Cryopod's scheduler, which it waits for to be placed, is away"

// reason is what the metric of pods that Cryopod ends says of these. No PodCheckpoint has it.
const reason = v1alpha1.Reason("Unplaced")

// Reconciler reconciles the pods that wait.
type Reconciler struct {
	// Client reads pods from the cache.
	Client client.Client
	// Remover ends pods.
	Remover removal.Remover
	// Ready tells whether Cryopod's scheduler runs.
	Ready func(context.Context) bool
	// Clock tells the time.
	Clock clock.PassiveClock

	mu    sync.Mutex
	since time.Time
}

// Register adds the controller to the manager.
func (r *Reconciler) Register(mgr ctrl.Manager) error {
	waits := predicate.NewPredicateFuncs(func(o client.Object) bool {
		pod, ok := o.(*corev1.Pod)
		return ok && Waits(pod)
	})
	err := ctrl.NewControllerManagedBy(mgr).Named(Name).For(&corev1.Pod{}, builder.WithPredicates(waits)).Complete(r)
	if err != nil {
		return fmt.Errorf("adding controller %q: %w", Name, err)
	}
	return nil
}

// Reconcile looks at one pod that waits.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pod := &corev1.Pod{}
	if err := r.Client.Get(ctx, req.NamespacedName, pod); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	now := r.Clock.Now()
	step := Next(pod, r.away(ctx, now), now)
	if !step.Replace {
		return reconcile.Result{RequeueAfter: step.After}, nil
	}
	_, err := r.Remover.Remove(ctx, removal.Order{
		Pod: pod, Reason: reason, How: v1alpha1.RemovalDelete, Cold: Why, Unplaced: true,
	})
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("replacing a pod that waits for a scheduler that is away: %w", err)
	}
	// Unless it has a node now, it is gone.
	return reconcile.Result{RequeueAfter: pause}, nil
}

// away is since when the scheduler has been seen to be away, by all looks together; zero while it runs.
func (r *Reconciler) away(ctx context.Context, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.Ready(ctx):
		r.since = time.Time{}
	case r.since.IsZero():
		r.since = now
	}
	return r.since
}
