// SPDX-License-Identifier: Apache-2.0

// Package descheduler keeps the descheduler's protocol for evictions that take their time: a pod that it asked for, and that is being
// saved, has v1alpha1.AnnotationEvictionInProgress. That counts against the descheduler's limits, and it does not ask again, also when it is
// restarted; as soon as the annotation goes, it may.
package descheduler

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
)

// Name is the controller's name.
const Name = "checkpoint.descheduler"

// Reconciler reconciles the annotations of pods.
type Reconciler struct {
	// Client reads pods and PodCheckpoints from the cache, and writes.
	Client client.Client
}

// Register adds the controller to the manager, whose cache has the indexes of package index.
func (r *Reconciler) Register(mgr ctrl.Manager) error {
	concerned := predicate.NewPredicateFuncs(func(o client.Object) bool {
		_, asked := o.GetAnnotations()[v1alpha1.AnnotationEvictOnly]
		_, marked := o.GetAnnotations()[v1alpha1.AnnotationEvictionInProgress]
		return asked || marked
	})
	err := ctrl.NewControllerManagedBy(mgr).Named(Name).
		For(&corev1.Pod{}, builder.WithPredicates(concerned)).
		Watches(&v1alpha1.PodCheckpoint{}, handler.EnqueueRequestsFromMapFunc(toPod)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("adding controller %q: %w", Name, err)
	}
	return nil
}

func toPod(_ context.Context, obj client.Object) []reconcile.Request {
	pc, ok := obj.(*v1alpha1.PodCheckpoint)
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: pc.Namespace, Name: pc.Spec.PodName}}}
}

// Reconcile brings one pod's annotation up to date.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pod := &corev1.Pod{}
	if err := r.Client.Get(ctx, req.NamespacedName, pod); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	checkpoints, err := index.Saving(ctx, r.Client, pod.Namespace, pod.UID)
	if err != nil {
		return reconcile.Result{}, err
	}
	action := Next(pod, checkpoints)
	if action == Nothing {
		return reconcile.Result{}, nil
	}
	next := pod.DeepCopy()
	delete(next.Annotations, v1alpha1.AnnotationEvictionInProgress)
	if action == Mark {
		next.Annotations[v1alpha1.AnnotationEvictionInProgress] = Value
	}
	err = r.Client.Patch(ctx, next, client.MergeFromWithOptions(pod, client.MergeFromWithOptimisticLock{}))
	// A pod that changed meanwhile comes back here by its change.
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return reconcile.Result{}, fmt.Errorf("telling the descheduler about pod %q: %w", pod.Name, err)
	}
	log.FromContext(ctx).V(1).Info("The descheduler was told about a pod", "action", action)
	return reconcile.Result{}, nil
}
