// SPDX-License-Identifier: Apache-2.0

// Package removal ends the pods of PodCheckpoints that say so (spec.removal), when they are saved or when that came to nothing.
package removal

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/termination"
)

// Name is the controller's name.
const Name = "checkpoint.removal"

const (
	// RefusedPause is how long a pod that was refused to go is left alone; drains wait as long. One that stands still has less time.
	RefusedPause = 5 * time.Second
	frozenPause  = time.Second

	// workers is how many pods are ended at a time: an eviction may be held.
	workers = 16
)

// Reconciler reconciles PodCheckpoints whose pods Cryopod ends.
type Reconciler struct {
	Remover
	// Taints are those that announce a node's end.
	Taints termination.List
}

// Register adds the controller to the manager, whose cache has nodes and NodeProfiles.
func (r *Reconciler) Register(mgr ctrl.Manager) error {
	ours := predicate.NewPredicateFuncs(func(obj client.Object) bool {
		pc, ok := obj.(*v1alpha1.PodCheckpoint)
		return ok && removes(pc)
	})
	err := ctrl.NewControllerManagedBy(mgr).Named(Name).
		For(&v1alpha1.PodCheckpoint{}, builder.WithPredicates(ours)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("adding controller %q: %w", Name, err)
	}
	return nil
}

func removes(pc *v1alpha1.PodCheckpoint) bool {
	return match.RemovalOf(pc) != v1alpha1.RemovalNone
}

// Reconcile ends the pod of one PodCheckpoint when it is time.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pc := &v1alpha1.PodCheckpoint{}
	if err := r.Client.Get(ctx, req.NamespacedName, pc); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !removes(pc) || !pc.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil
	}
	pod, err := index.Source(ctx, r.Client, r.Live, pc)
	if err != nil {
		return reconcile.Result{}, err
	}
	now := r.Clock.Now()
	step := Next(pc, pod, now)
	if !step.Remove {
		return reconcile.Result{RequeueAfter: step.After}, nil
	}
	if off, err := r.calledOff(ctx, pc); err != nil {
		return reconcile.Result{}, err
	} else if off {
		return reconcile.Result{}, CallOff(ctx, r.Client, pc, stays, now)
	}
	if step.Overdue {
		if again, err := r.savedAgain(ctx, pc); again || err != nil {
			return reconcile.Result{}, err
		}
	}
	o := Order{Pod: pod, Checkpoint: pc, Reason: pc.Spec.Reason, How: match.RemovalOf(pc), Cold: step.Cold}
	refused, err := r.Remove(ctx, o)
	switch {
	case err != nil || refused == "":
		return reconcile.Result{}, err
	case !now.Before(match.DeadlineOf(pc)):
		r.GiveUp(o, refused, match.DeadlineOf(pc))
		return reconcile.Result{}, nil
	case step.Cold == "":
		return reconcile.Result{RequeueAfter: frozenPause}, nil
	}
	return reconcile.Result{RequeueAfter: RefusedPause}, nil
}

// savedAgain tells whether there is a later attempt to save the pod, which says what becomes of it.
func (r *Reconciler) savedAgain(ctx context.Context, pc *v1alpha1.PodCheckpoint) (bool, error) {
	all, err := index.Saving(ctx, r.Client, pc.Namespace, pc.Spec.PodUID)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(all, func(other v1alpha1.PodCheckpoint) bool {
		return other.Spec.Fence && match.Attempt(other.Name) > match.Attempt(pc.Name)
	}), nil
}

// calledOff tells whether the pod was to go with its node, and the node is to stay after all.
func (r *Reconciler) calledOff(ctx context.Context, pc *v1alpha1.PodCheckpoint) (bool, error) {
	if !ForItsNode(pc) {
		return false, nil
	}
	key := client.ObjectKey{Name: pc.Spec.NodeName}
	node, profile := &corev1.Node{}, &v1alpha1.NodeProfile{}
	if err := r.Client.Get(ctx, key, node); err != nil {
		// A node that is gone does not come back.
		return false, client.IgnoreNotFound(err)
	}
	if err := r.Client.Get(ctx, key, profile); client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading NodeProfile %q: %w", key.Name, err)
	}
	return !Ending(node, profile, r.Taints, r.Clock.Now()), nil
}

// Ending tells whether anything still makes pods leave the node: a notice, its agent's or its taints', or a taint that the taint manager
// deletes pods for. The profile is nil where there is none.
func Ending(node *corev1.Node, profile *v1alpha1.NodeProfile, taints termination.List, now time.Time) bool {
	if _, announced := taints.Of(node, now); announced || profile != nil && profile.Status.Notice != nil {
		return true
	}
	for i := range node.Spec.Taints {
		if node.Spec.Taints[i].Effect == corev1.TaintEffectNoExecute {
			return true
		}
	}
	return false
}
