// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	ctrlsource "sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Name is the controller's name in logs and metrics.
const Name = "source"

// stopping bounds what the agent does at its end; the manager's grace has to be longer.
const stopping = 20 * time.Second

// reconcilers is how many PodCheckpoints are looked at at the same time. No call waits for a dump.
const reconcilers = 8

// firstAgain and lastAgain bound the pauses between tries of what failed. controller-runtime's own grow to a quarter of an hour, which a
// frozen pod would stand still after containerd or the API server is back.
const (
	firstAgain = 50 * time.Millisecond
	lastAgain  = 5 * time.Second
)

// RateLimiter says when what failed is tried again.
func RateLimiter() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstAgain, lastAgain)
}

// SetupWithManager adds the reconciler to a manager whose cache holds the PodCheckpoints of the node, and sets Wake. What the
// ledger names is looked at when the manager starts, also when its PodCheckpoint is gone.
func (r *Reconciler) SetupWithManager(mgr manager.Manager) error {
	wake := make(chan event.GenericEvent, 1024)
	r.Wake = func(key types.NamespacedName) {
		wake <- event.GenericEvent{Object: &v1alpha1.PodCheckpoint{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}}
	}
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&v1alpha1.PodCheckpoint{}).
		WatchesRawSource(ctrlsource.Channel(wake, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: reconcilers, RateLimiter: RateLimiter()}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("setting up controller %q: %w", Name, err)
	}
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		for _, entry := range r.Ledger.All() {
			r.Wake(entry.Checkpoint)
		}
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopping)
		defer cancel()
		r.Stop(ctx)
		return nil
	}))
}
