// SPDX-License-Identifier: Apache-2.0

// Package claim binds each claim on a checkpoint to the pod that carries it, and gives a checkpoint back when that pod never came
// to be.
package claim

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
	"sigs.k8s.io/controller-runtime/pkg/controller"
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
const Name = "checkpoint.claim"

const workers = 4

// Reconciler reconciles the claims of PodCheckpoints.
type Reconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads from the API server: a claim is only given up when no pod carries it in truth.
	Live client.Reader
	// Events gets the events.
	Events event.Recorder
	// Clock tells the time.
	Clock clock.PassiveClock
	// UnboundAfter is how old a claim without a pod gets before its checkpoint is given back. It has to be longer than the API
	// server lets a request last: until then the pod may still come.
	UnboundAfter time.Duration
}

// Register adds the controller to the manager, whose cache has the indexes of package index.
func (r *Reconciler) Register(mgr ctrl.Manager) error {
	comesAndGoes := predicate.Funcs{UpdateFunc: func(ctrlevent.UpdateEvent) bool { return false }}
	err := ctrl.NewControllerManagedBy(mgr).Named(Name).
		For(&v1alpha1.PodCheckpoint{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(toCheckpoint), builder.WithPredicates(comesAndGoes)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("adding controller %q: %w", Name, err)
	}
	return nil
}

func toCheckpoint(_ context.Context, pod client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, name := range index.ByRestoreFrom(pod) {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKey{Namespace: pod.GetNamespace(), Name: name}})
	}
	return requests
}

// Reconcile takes the next step of one PodCheckpoint's claim.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pc := &v1alpha1.PodCheckpoint{}
	if err := r.Client.Get(ctx, req.NamespacedName, pc); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if pc.Status.Phase != v1alpha1.PhaseClaimed || pc.Status.Claim == nil {
		return reconcile.Result{}, nil
	}
	carrier, err := r.carrier(ctx, pc)
	if err != nil {
		return reconcile.Result{}, err
	}
	step := Next(pc, carrier, r.Clock.Now(), r.UnboundAfter)
	if step.Status == nil {
		return reconcile.Result{RequeueAfter: step.After}, nil
	}
	return reconcile.Result{}, r.write(ctx, pc, carrier, step)
}

// carrier is the pod that carries the claim, nil when there is none. The cache is believed when it has the pod. When it has not
// and that has consequences, the API server is asked.
func (r *Reconciler) carrier(ctx context.Context, pc *v1alpha1.PodCheckpoint) (*corev1.Pod, error) {
	pods, err := index.Restoring(ctx, r.Client, pc.Namespace, pc.Name)
	if err != nil {
		return nil, err
	}
	if pod := first(pods, pc); pod != nil {
		return pod, nil
	}
	if Next(pc, nil, r.Clock.Now(), r.UnboundAfter).Status == nil {
		return nil, nil
	}
	var live corev1.PodList
	err = r.Live.List(ctx, &live, client.InNamespace(pc.Namespace), client.MatchingLabels{v1alpha1.LabelRestoring: "true"})
	if err != nil {
		return nil, fmt.Errorf("listing restoring pods: %w", err)
	}
	return first(live.Items, pc), nil
}

func first(pods []corev1.Pod, pc *v1alpha1.PodCheckpoint) *corev1.Pod {
	for i := range pods {
		if Carries(&pods[i], pc) {
			return &pods[i]
		}
	}
	return nil
}

// write writes the step's status on top of the version that the step was decided on. Another writer's conflict is no error: its
// change brings the object back here.
func (r *Reconciler) write(ctx context.Context, pc *v1alpha1.PodCheckpoint, carrier *corev1.Pod, step Step) error {
	next := pc.DeepCopy()
	next.Status = *step.Status
	if err := r.Client.Status().Update(ctx, next); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("writing the claim of PodCheckpoint %q: %w", pc.Name, err)
	}
	log.FromContext(ctx).Info("Claim changed", "phase", next.Status.Phase, "bound", next.Status.Claim != nil && next.Status.Claim.PodUID != "")
	if step.Outcome != "" {
		metrics.CountClaim(step.Outcome)
	}
	if step.Lost {
		metrics.CountRestore(v1alpha1.RestoreMethodImage, metrics.RestoreLost)
		metrics.CountCheckpoint(pc.Spec.Reason, metrics.OutcomeFailed)
	}
	switch {
	case step.Outcome == metrics.ClaimBound:
		// Admission has told the owner and the PodCheckpoint; the pod did not exist then.
		event.Publish(r.Events, step.Event, nil, carrier)
	case step.Event.Reason != "":
		event.Publish(r.Events, step.Event, next, carrier)
	}
	return nil
}
