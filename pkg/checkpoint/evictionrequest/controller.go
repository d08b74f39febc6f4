// SPDX-License-Identifier: Apache-2.0

// Package evictionrequest is Cryopod's responder of KEP-4563: where an EvictionRequest asks for a pod that names it, it is one more that
// evicts. It has no say in how the pod is saved; its evictions go through admission as everybody else's.
//
// Kubernetes 1.37 has the API (alpha, feature gate EvictionRequestAPI) and not yet the controller that makes Evictions of EvictionRequests.
package evictionrequest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	lifecyclev1alpha1 "k8s.io/api/lifecycle/v1alpha1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// Name is the controller's name.
const Name = "checkpoint.evictionrequest"

const (
	workers = 16
	// tryTimeout ends an eviction that admission holds: it has begun to save the pod, and the change of the PodCheckpoint brings us
	// back. Shorter than the webhook's own hold, so that an eviction that is called off does not happen all the same.
	tryTimeout = 3 * time.Second
	// retry is how soon an eviction that was put off is tried again when nothing changes before.
	retry = 5 * time.Second
)

// Served tells whether the API server has the API: it does with its feature gate EvictionRequestAPI and
// --runtime-config=lifecycle.k8s.io/v1alpha1=true.
func Served(mapper meta.RESTMapper) (bool, error) {
	_, err := mapper.RESTMapping(lifecyclev1alpha1.SchemeGroupVersion.WithKind("Eviction").GroupKind(), lifecyclev1alpha1.SchemeGroupVersion.Version)
	if meta.IsNoMatchError(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for the API of evictions, %s: %w", lifecyclev1alpha1.SchemeGroupVersion, err)
	}
	return true, nil
}

// Reconciler reconciles the Evictions that have Cryopod among their responders.
type Reconciler struct {
	// Client reads Evictions and PodCheckpoints from the cache, and writes.
	Client client.Client
	// Live reads pods from the API server.
	Live client.Reader
	// Events gets the events.
	Events event.Recorder
	// Clock tells the time.
	Clock clock.PassiveClock
}

// Register adds the controller to the manager, whose cache has the indexes of package index.
func (r *Reconciler) Register(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).Named(Name).
		For(&lifecyclev1alpha1.Eviction{}).
		Watches(&v1alpha1.PodCheckpoint{}, handler.EnqueueRequestsFromMapFunc(r.toEvictions)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("adding controller %q: %w", Name, err)
	}
	return nil
}

// toEvictions are the Evictions of the pod that a PodCheckpoint saves: they are tried again when it is saved, or can't be.
func (r *Reconciler) toEvictions(ctx context.Context, obj client.Object) []reconcile.Request {
	pc, ok := obj.(*v1alpha1.PodCheckpoint)
	if !ok || pc.Status.Phase != v1alpha1.PhaseReady && !pc.Status.Phase.Final() {
		return nil
	}
	var list lifecyclev1alpha1.EvictionList
	if err := r.Client.List(ctx, &list, client.InNamespace(pc.Namespace)); err != nil {
		log.FromContext(ctx).Error(err, "Looking up the Evictions of a pod failed")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if ev := &list.Items[i]; ev.Spec.Target.Pod != nil && ev.Spec.Target.Pod.UID == pc.Spec.PodUID && turn(ev) != nil {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(ev)})
		}
	}
	return requests
}

// Reconcile takes the next steps of one turn.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	ev := &lifecyclev1alpha1.Eviction{}
	if err := r.Client.Get(ctx, req.NamespacedName, ev); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if turn(ev) == nil || ev.Spec.Target.Pod == nil {
		return reconcile.Result{}, nil
	}
	c := Case{Eviction: ev}
	if err := r.observe(ctx, &c); err != nil {
		return reconcile.Result{}, err
	}
	step := Next(c)
	if step.Action == Report {
		if written, err := r.write(ctx, c, step); err != nil || !written {
			return reconcile.Result{}, err
		}
		step = Next(c)
	}
	if step.Action == Evict {
		again, err := r.evict(ctx, c)
		if err != nil {
			return reconcile.Result{}, err
		}
		if again == nil {
			return reconcile.Result{RequeueAfter: retry}, nil
		}
		step = *again
	}
	if step.Action == Complete {
		return reconcile.Result{}, r.complete(ctx, c, step)
	}
	return reconcile.Result{}, nil
}

func (r *Reconciler) observe(ctx context.Context, c *Case) error {
	c.Now = r.Clock.Now()
	target := c.Eviction.Spec.Target.Pod
	pod := &corev1.Pod{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: c.Eviction.Namespace, Name: target.Name}, pod)
	switch {
	case err == nil && pod.UID == target.UID:
		c.Pod = pod
	case client.IgnoreNotFound(err) != nil:
		return fmt.Errorf("reading pod %q: %w", target.Name, err)
	}
	c.Checkpoints, err = index.Saving(ctx, r.Client, c.Eviction.Namespace, target.UID)
	return err
}

// evict tries once. It returns how the turn ends, nil when it goes on: the eviction was put off.
func (r *Reconciler) evict(ctx context.Context, c Case) (*Step, error) {
	try, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	err := r.Client.SubResource("eviction").Create(try, c.Pod, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: c.Pod.Namespace, Name: c.Pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(c.Pod.UID)}},
	})
	switch {
	case err == nil:
		return &Step{Action: Complete, Message: "the pod was evicted", Outcome: metrics.ResponseEvicted}, nil
	case apierrors.IsNotFound(err):
		return &Step{Action: Complete, Message: "the pod has gone", Outcome: metrics.ResponseGone}, nil
	case apierrors.IsTooManyRequests(err) && apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause):
		// The next responder asks the budget again and again, and when it may, admission saves the pod for it.
		return ptr.To(handOver(err.Error())), nil
	case apierrors.IsTooManyRequests(err), apierrors.IsConflict(err), errors.Is(try.Err(), context.DeadlineExceeded) && ctx.Err() == nil:
		log.FromContext(ctx).V(1).Info("The eviction was put off", "pod", c.Pod.Name, "answer", err.Error())
		return nil, nil
	}
	return nil, fmt.Errorf("evicting pod %q: %w", c.Pod.Name, err)
}

func (r *Reconciler) complete(ctx context.Context, c Case, step Step) error {
	written, err := r.write(ctx, c, step)
	if err != nil || !written {
		return err
	}
	metrics.CountResponse(step.Outcome)
	log.FromContext(ctx).Info("The turn in an eviction is over", "outcome", step.Outcome, "message", step.Message)
	if step.Outcome == metrics.ResponseHandedOver {
		event.Publish(r.Events, event.Event{
			Type: corev1.EventTypeWarning, Reason: event.ReasonHandedOver, Action: "Evict",
			Message: "Not evicted by Cryopod: " + step.Message,
		}, nil, c.Pod)
	}
	return nil
}

// write puts our entry of the status down, on top of the version that was read, and reports whether it did. Another writer's conflict
// is no error: its change brings the Eviction back here. The case gets the new version.
func (r *Reconciler) write(ctx context.Context, c Case, step Step) (bool, error) {
	base := c.Eviction.DeepCopy()
	now := metav1.NewTime(c.Now)
	mine := turn(c.Eviction)
	mine.HeartbeatTime, mine.Message = &now, ptr.To(cut(step.Message))
	if !step.Expected.IsZero() {
		mine.ExpectedCompletionTime = ptr.To(metav1.NewTime(step.Expected))
	}
	if step.Action == Complete {
		mine.CompletionTime = &now
	}
	patch := client.StrategicMergeFrom(base, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, c.Eviction, patch); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("writing Eviction %q: %w", base.Name, err)
	}
	return true, nil
}

// maxMessage is the API's limit.
const maxMessage = 4000

func cut(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage], "")
}
