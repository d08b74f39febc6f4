// SPDX-License-Identifier: Apache-2.0

package evacuation

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/termination"
)

// Register adds the controller to the manager, whose cache has the indexes of package index, all nodes (of them no more than their taints,
// whether they are cordoned, and the annotation), NodeProfiles, PodCheckpoints and opted-in pods.
func (r *Reconciler) Register(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).Named(Name).
		For(&corev1.Node{}, builder.WithPredicates(changes(nodeChanged))).
		Watches(&v1alpha1.NodeProfile{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(changes(profileChanged))).
		Watches(&v1alpha1.PodCheckpoint{}, handler.EnqueueRequestsFromMapFunc(r.toNode)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.toNode)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("adding controller %q: %w", Name, err)
	}
	return nil
}

// changes passes everything but updates that change nothing of interest.
func changes(of func(before, after client.Object) bool) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e ctrlevent.UpdateEvent) bool { return of(e.ObjectOld, e.ObjectNew) }}
}

func nodeChanged(before, after client.Object) bool {
	a, okA := before.(*corev1.Node)
	b, okB := after.(*corev1.Node)
	return !okA || !okB || a.Annotations[v1alpha1.AnnotationNotice] != b.Annotations[v1alpha1.AnnotationNotice] ||
		a.Spec.Unschedulable != b.Spec.Unschedulable ||
		!slices.EqualFunc(a.Spec.Taints, b.Spec.Taints, func(x, y corev1.Taint) bool { return x.Key == y.Key })
}

func profileChanged(before, after client.Object) bool {
	a, okA := before.(*v1alpha1.NodeProfile)
	b, okB := after.(*v1alpha1.NodeProfile)
	return !okA || !okB || !equality.Semantic.DeepEqual(a.Status.Notice, b.Status.Notice) ||
		!equality.Semantic.DeepEqual(a.Status.Conditions, b.Status.Conditions)
}

// toNode is the node of a pod or a PodCheckpoint, if it ends: changes elsewhere cost two look-ups in the cache.
func (r *Reconciler) toNode(ctx context.Context, obj client.Object) []reconcile.Request {
	name := ""
	switch o := obj.(type) {
	case *corev1.Pod:
		name = o.Spec.NodeName
	case *v1alpha1.PodCheckpoint:
		name = o.Spec.NodeName
	}
	if name == "" || !r.ends(ctx, name) {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: name}}}
}

func (r *Reconciler) ends(ctx context.Context, name string) bool {
	key := client.ObjectKey{Name: name}
	node, profile := &corev1.Node{}, &v1alpha1.NodeProfile{}
	if err := r.Client.Get(ctx, key, node); err == nil {
		if _, running := termination.Running(node, r.Clock.Now()); running {
			return true
		}
	}
	return r.Client.Get(ctx, key, profile) == nil && profile.Status.Notice != nil
}
