// SPDX-License-Identifier: Apache-2.0

// Package restore watches pods that start from a checkpoint. It notes when they run, sends them back to their base images when the
// restore fails, and keeps a container that ends later from rewinding to the checkpoint.
package restore

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
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
const Name = "checkpoint.restore"

const workers = 4

// Reconciler reconciles the pods that were admitted to start from a checkpoint.
type Reconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads from the API server: a pod is only taken to have lost its claim when it has in truth.
	Live client.Reader
	// Events gets the events.
	Events event.Recorder
	// Clock tells the time.
	Clock clock.PassiveClock
}

// Register adds the controller to the manager, whose cache has the indexes of package index.
func (r *Reconciler) Register(mgr ctrl.Manager) error {
	restoring := predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetAnnotations()[v1alpha1.AnnotationRestoreFrom] != ""
	})
	err := ctrl.NewControllerManagedBy(mgr).Named(Name).
		For(&corev1.Pod{}, builder.WithPredicates(restoring)).
		Watches(&v1alpha1.PodCheckpoint{}, handler.EnqueueRequestsFromMapFunc(r.toPods)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("adding controller %q: %w", Name, err)
	}
	return nil
}

func (r *Reconciler) toPods(ctx context.Context, pc client.Object) []reconcile.Request {
	pods, err := index.Restoring(ctx, r.Client, pc.GetNamespace(), pc.GetName())
	if err != nil {
		log.FromContext(ctx).Error(err, "Looking up the pods of a PodCheckpoint failed")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(pods))
	for i := range pods {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&pods[i])})
	}
	return requests
}

// Reconcile takes the next steps of one pod: the patch of the pod first, then the status of its PodCheckpoint. When it dies in
// between, the pod's annotation tells the next run what to write.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pod := &corev1.Pod{}
	if err := r.Client.Get(ctx, req.NamespacedName, pod); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	pc, err := checkpointOf(ctx, r.Client, pod)
	if err != nil {
		return reconcile.Result{}, err
	}
	verdict := Judge(pod, pc)
	if verdict.Class == metrics.FallbackClaim {
		// The cache may be behind: pods and PodCheckpoints come by separate watches.
		if pc, err = checkpointOf(ctx, r.Live, pod); err != nil {
			return reconcile.Result{}, err
		}
		verdict = Judge(pod, pc)
	}
	if verdict.Action == FallBack {
		fellBack, err := r.fallBack(ctx, pod, pc, verdict)
		if err != nil || !fellBack {
			return reconcile.Result{}, err
		}
		verdict = Judge(pod, pc)
	}
	switch verdict.Action {
	case WriteRestored:
		return reconcile.Result{}, r.writeRestored(ctx, pod, pc)
	case WriteFailed:
		return reconcile.Result{}, r.writeFailed(ctx, pod, pc, verdict)
	default:
		return reconcile.Result{}, nil
	}
}

// checkpointOf is the PodCheckpoint that the pod names, nil when there is none.
func checkpointOf(ctx context.Context, c client.Reader, pod *corev1.Pod) (*v1alpha1.PodCheckpoint, error) {
	name := pod.Annotations[v1alpha1.AnnotationRestoreFrom]
	if name == "" {
		return nil, nil
	}
	pc := &v1alpha1.PodCheckpoint{}
	err := c.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: name}, pc)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading PodCheckpoint %q: %w", name, err)
	}
	return pc, nil
}

// fallBack patches the pod, in place too, and reports whether it did. A pod that changed meanwhile is no error: the change brings
// it back here.
func (r *Reconciler) fallBack(ctx context.Context, pod *corev1.Pod, pc *v1alpha1.PodCheckpoint, v Verdict) (bool, error) {
	cold := Cold(pod, v.Containers, v.Why)
	patch := client.StrategicMergeFrom(pod.DeepCopy(), client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, cold, patch); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("falling back pod %q: %w", pod.Name, err)
	}
	log.FromContext(ctx).Info("Pod sent back to its base images", "class", v.Class, "containers", v.Containers)
	metrics.CountFallback(v.Class)
	if rel := relate(pod, pc); rel != restoring {
		if rel != over {
			pc = nil // not the pod's
		}
		event.Publish(r.Events, coldRestartEvent(v.Why), pc, pod)
	}
	cold.DeepCopyInto(pod)
	return true, nil
}
