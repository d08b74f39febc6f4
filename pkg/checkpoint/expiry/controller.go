// SPDX-License-Identifier: Apache-2.0

// Package expiry ends checkpoints that are of no more use: past their deadline, without the pod that they save, or waiting too
// long for a pod to claim them. What is over is removed by package retention.
//
// A PodCheckpoint of a controller that was deleted needs no care: it is owned by it, and Kubernetes collects it.
package expiry

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// Name is the controller's name.
const Name = "checkpoint.expiry"

// lookForReplacement is how often it is looked whether a pod of a given name came without its checkpoint. No watch tells: the cache
// has no pod that admission has not seen.
const lookForReplacement = 5 * time.Second

// Reconciler reconciles the ages of PodCheckpoints.
type Reconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads from the API server: the cache has only pods that were opted in when they were made.
	Live client.Reader
	// Events gets the events.
	Events event.Recorder
	// Clock tells the time.
	Clock clock.PassiveClock
	// Limits are the ages.
	Limits Limits

	looks looks
}

// Register adds the controller to the manager, whose cache has the indexes of package index.
func (r *Reconciler) Register(mgr ctrl.Manager) error {
	goes := predicate.Funcs{
		CreateFunc: func(ctrlevent.CreateEvent) bool { return false },
		UpdateFunc: func(ctrlevent.UpdateEvent) bool { return false },
	}
	err := ctrl.NewControllerManagedBy(mgr).Named(Name).
		For(&v1alpha1.PodCheckpoint{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.toCheckpoints), builder.WithPredicates(goes)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("adding controller %q: %w", Name, err)
	}
	return nil
}

func (r *Reconciler) toCheckpoints(ctx context.Context, pod client.Object) []reconcile.Request {
	pcs, err := index.Saving(ctx, r.Client, pod.GetNamespace(), pod.GetUID())
	if err != nil {
		log.FromContext(ctx).Error(err, "Looking up the PodCheckpoints of a pod failed")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(pcs))
	for i := range pcs {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&pcs[i])})
	}
	return requests
}

// Reconcile takes the next step of one PodCheckpoint.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pc := &v1alpha1.PodCheckpoint{}
	if err := r.Client.Get(ctx, req.NamespacedName, pc); err != nil {
		r.looks.forget(req.NamespacedName)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !Waits(pc) {
		r.looks.forget(req.NamespacedName)
	}
	if !pc.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil
	}
	var source *corev1.Pod
	if UnderWay(pc) {
		var err error
		if source, err = index.Source(ctx, r.Client, r.Live, pc); err != nil {
			return reconcile.Result{}, err
		}
	}
	step := Next(pc, source == nil, r.Clock.Now(), r.Limits)
	if Waits(pc) && step.Status == nil {
		var err error
		if step, err = r.whileItWaits(ctx, pc, step); err != nil {
			return reconcile.Result{}, err
		}
	}
	if step.Status == nil {
		return reconcile.Result{RequeueAfter: step.After}, nil
	}
	return reconcile.Result{}, r.write(ctx, pc, source, step)
}

// whileItWaits looks whether the pod that a checkpoint waits for came without it, or is not going to come.
func (r *Reconciler) whileItWaits(ctx context.Context, pc *v1alpha1.PodCheckpoint, step Step) (Step, error) {
	if ByName(pc) {
		replaced, err := r.replaced(ctx, pc)
		if err != nil {
			return Step{}, err
		}
		if replaced {
			return Replaced(pc, r.Clock.Now()), nil
		}
		step.After = sooner(step.After, lookForReplacement)
	}
	rule, after, err := r.notWanted(ctx, pc)
	if err != nil {
		return Step{}, err
	}
	if rule != "" {
		return Surplus(pc, rule, r.Clock.Now()), nil
	}
	step.After = sooner(step.After, after)
	return step, nil
}

// replaced tells whether another pod has the name of the one that the PodCheckpoint saves. One that had claimed it would have made it
// Claimed first, and the write that follows here would fail.
func (r *Reconciler) replaced(ctx context.Context, pc *v1alpha1.PodCheckpoint) (bool, error) {
	pod := &corev1.Pod{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: pc.Namespace, Name: pc.Spec.PodName}, pod)
	if err != nil {
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("reading pod %q: %w", pc.Spec.PodName, err)
	}
	return pod.UID != pc.Spec.PodUID, nil
}

// write writes the step's status on top of the version that the step was decided on. Another writer's conflict is no error: its
// change brings the object back here.
func (r *Reconciler) write(ctx context.Context, pc *v1alpha1.PodCheckpoint, source *corev1.Pod, step Step) error {
	next := pc.DeepCopy()
	next.Status = *step.Status
	if err := r.Client.Status().Update(ctx, next); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("writing PodCheckpoint %q: %w", pc.Name, err)
	}
	log.FromContext(ctx).Info("PodCheckpoint changed", "phase", next.Status.Phase)
	metrics.CountCheckpoint(pc.Spec.Reason, step.Outcome)
	if step.Event.Reason != "" {
		event.Publish(r.Events, step.Event, next, source)
	}
	return nil
}
