// SPDX-License-Identifier: Apache-2.0

// Package retention removes checkpoints that are over: their images from the registry, and then the PodCheckpoints. It bounds what is
// kept by count, age and bytes, and finds images that no PodCheckpoint names.
//
// There are no finalizers: a namespace can be deleted while nobody leads. What is left in the registry then is found by the Sweeper.
package retention

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// Name is the controller's name.
const Name = "checkpoint.retention"

const (
	workers = 4
	// While the registry is away, it is asked after 5 s first, then ever less often.
	firstRetry, lastRetry = 5 * time.Second, 10 * time.Minute
)

// Reconciler reconciles what is kept of the checkpoints of a namespace; a request's name is the namespace's.
type Reconciler struct {
	// Client reads from the cache, which has all PodCheckpoints and the namespaces, and writes.
	Client client.Client
	// Events gets the events.
	Events event.Recorder
	// Clock tells the time.
	Clock clock.PassiveClock
	// Images deletes from the registry; nil when there is none.
	Images *Images
	// Policy counts where a namespace has none of its own.
	Policy Policy

	mu sync.Mutex
	// warned is what was last said about a namespace's annotations.
	warned map[string]string
}

// Register adds the controller to the manager.
func (r *Reconciler) Register(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).Named(Name).
		Watches(&v1alpha1.PodCheckpoint{}, handler.EnqueueRequestsFromMapFunc(toNamespace), builder.WithPredicates(ends())).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(toNamespace), builder.WithPredicates(scheduledGoes())).
		Watches(&corev1.Namespace{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(overrides())).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
		}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("adding controller %q: %w", Name, err)
	}
	return nil
}

func toNamespace(_ context.Context, obj client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: obj.GetNamespace()}}}
}

// Reconcile removes what the namespace's policy does not keep. While the registry is away, PodCheckpoints with images stay, and so do the
// images.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var all v1alpha1.PodCheckpointList
	if err := r.Client.List(ctx, &all, client.InNamespace(req.Name)); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing the PodCheckpoints of namespace %q: %w", req.Name, err)
	}
	for i := range all.Items {
		if r.Images != nil && HasImages(&all.Items[i]) {
			r.Images.saw(req.Name)
			break
		}
	}
	policy, err := r.policy(ctx, req.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	if r.Images == nil || r.Images.refuses() {
		// Nothing but the objects can be removed.
		policy.KeepImages, policy.Bytes = true, 0
	}
	lives := func(pc *v1alpha1.PodCheckpoint) bool { return r.lives(ctx, pc) }
	plan := Decide(all.Items, lives, policy, r.Clock.Now())
	var failures []error
	for _, removal := range plan.Removals {
		if len(failures) == patience && HasImages(removal.Checkpoint) {
			continue
		}
		if err := r.remove(ctx, removal); err != nil {
			if !errors.As(err, new(*awayError)) {
				return reconcile.Result{}, err
			}
			failures = append(failures, err)
		}
	}
	if len(failures) > 0 {
		return reconcile.Result{}, errors.Join(failures...)
	}
	return reconcile.Result{RequeueAfter: plan.After}, nil
}

// lives tells whether the pod of a scheduled checkpoint is still there: the cache has all pods that have a schedule.
func (r *Reconciler) lives(ctx context.Context, pc *v1alpha1.PodCheckpoint) bool {
	pod := &corev1.Pod{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: pc.Namespace, Name: pc.Spec.PodName}, pod)
	if err != nil {
		return !apierrors.IsNotFound(err)
	}
	return pod.UID == pc.Spec.PodUID
}

// awayError is a failure of the registry that may be gone later.
type awayError struct{ err error }

func (e *awayError) Error() string { return e.err.Error() }
func (e *awayError) Unwrap() error { return e.err }

// remove deletes the images first: once the object is gone, nothing names them.
func (r *Reconciler) remove(ctx context.Context, removal Removal) error {
	pc := removal.Checkpoint
	removed := false
	if r.Images != nil && HasImages(pc) {
		err := r.Images.remove(ctx, pc, removal.Rule)
		switch {
		case errors.Is(err, errRefused):
			if !removal.Object {
				return nil
			}
		case err != nil:
			r.Events.Eventf(pc, nil, corev1.EventTypeWarning, event.ReasonImagesLeft, "Delete",
				"The registry did not delete the images (%s); it will be asked again, and the PodCheckpoint stays until then", err)
			return &awayError{err}
		default:
			removed = true
		}
	}
	if removed && removal.Rule == metrics.RuleBytes {
		r.tellOwner(pc)
	}
	if removal.Object {
		return r.deleteObject(ctx, pc, removal.Rule)
	}
	return r.writeRemoved(ctx, pc, removal.Rule)
}

// tellOwner tells of images that the checkpoint's owner may have wanted to keep.
func (r *Reconciler) tellOwner(pc *v1alpha1.PodCheckpoint) {
	o := pc.Status.Owner
	if o == nil {
		return
	}
	owner := &corev1.ObjectReference{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: pc.Namespace, Name: o.Name, UID: o.UID}
	r.Events.Eventf(owner, pc, corev1.EventTypeNormal, event.ReasonImagesRemoved, "Delete",
		"The checkpoint images of namespace %q are larger than it may have; those of pod %q, which is over (%s), were deleted",
		pc.Namespace, pc.Spec.PodName, pc.Status.Phase)
}

// deleteObject deletes the very version that was decided on. Another writer's conflict is no error: its change brings it back here.
func (r *Reconciler) deleteObject(ctx context.Context, pc *v1alpha1.PodCheckpoint, rule metrics.RetentionRule) error {
	uid, version := pc.UID, pc.ResourceVersion
	err := r.Client.Delete(ctx, pc, client.Preconditions{UID: &uid, ResourceVersion: &version})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting PodCheckpoint %q: %w", pc.Name, err)
	}
	metrics.CountRemovedCheckpoint(rule)
	log.FromContext(ctx).Info("PodCheckpoint removed", "checkpoint", pc.Name, "rule", rule)
	return nil
}

// removedBecause are the reasons of the condition ImagesRemoved.
var removedBecause = map[metrics.RetentionRule][2]string{
	metrics.RuleOver:  {"Over", "The checkpoint is over; its images were deleted from the registry"},
	metrics.RuleBytes: {"Bytes", "The checkpoint images of the namespace are larger than it may have; these were deleted from the registry"},
}

func (r *Reconciler) writeRemoved(ctx context.Context, pc *v1alpha1.PodCheckpoint, rule metrics.RetentionRule) error {
	next, because := pc.DeepCopy(), removedBecause[rule]
	meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionImagesRemoved, Status: metav1.ConditionTrue, Reason: because[0], Message: because[1],
		LastTransitionTime: metav1.NewTime(r.Clock.Now()),
	})
	if err := r.Client.Status().Update(ctx, next); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("writing PodCheckpoint %q: %w", pc.Name, err)
	}
	return nil
}

// policy is that of the namespace. What can't be read of it is told once, on the namespace.
func (r *Reconciler) policy(ctx context.Context, namespace string) (Policy, error) {
	ns := &corev1.Namespace{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: namespace}, ns); err != nil {
		if apierrors.IsNotFound(err) {
			return r.Policy, nil
		}
		return Policy{}, fmt.Errorf("reading namespace %q: %w", namespace, err)
	}
	policy, wrong := r.Policy.Override(ns.Annotations)
	text := strings.Join(wrong, "; ")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.warned[namespace] == text {
		return policy, nil
	}
	if r.warned == nil {
		r.warned = map[string]string{}
	}
	if text == "" {
		delete(r.warned, namespace)
		return policy, nil
	}
	r.warned[namespace] = text
	r.Events.Eventf(ns, nil, corev1.EventTypeWarning, event.ReasonInvalidRetention, "Ignore", "%s; the cluster's default counts", text)
	return policy, nil
}
