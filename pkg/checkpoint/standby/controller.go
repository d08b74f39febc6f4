// SPDX-License-Identifier: Apache-2.0

// Package standby decides what becomes of checkpoints that were made on a schedule (package schedule), whose pods run on. Of each pod the
// newest is kept. When the pod is certain to have gone with its node, that one may be claimed; when the pod ends otherwise, or nobody
// knows how, it expires, and the replacement starts cold.
//
// What is certain is written down at once (v1alpha1.ConditionSourceLost), and only what is written down is believed: a leader that was not
// there when a pod went knows nothing of it.
package standby

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
	"github.com/cryopod/cryopod/pkg/checkpoint/expiry"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// Name is the controller's name.
const Name = "checkpoint.standby"

const (
	workers = 8

	// handOver is how long after a pod has vanished from the cache the word of its end may still be on its way here.
	handOver = time.Second

	// rememberFor is how long a pod's last state is kept. What it is needed for is written within moments.
	rememberFor = 10 * time.Minute
)

// Reconciler judges the PodCheckpoints that were made on a schedule.
type Reconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads from the API server: nodes, and whatever a claim follows from.
	Live client.Reader
	// Events gets the events.
	Events event.Recorder
	// Clock tells the time.
	Clock clock.PassiveClock

	mu      sync.Mutex
	last    map[types.UID]sighting
	missing map[types.UID]time.Time
}

// sighting is a pod as it was when it went.
type sighting struct {
	pod *corev1.Pod
	at  time.Time
}

// Register adds the controller to the manager, whose cache has the indexes of package index.
func (r *Reconciler) Register(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).Named(Name).
		For(&v1alpha1.PodCheckpoint{}).
		Watches(&v1alpha1.PodCheckpoint{}, handler.EnqueueRequestsFromMapFunc(r.siblings)).
		Watches(&corev1.Pod{}, r.pods()).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.onNode), builder.WithPredicates(nodeChanges())).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("adding controller %q: %w", Name, err)
	}
	return nil
}

// Reconcile judges one PodCheckpoint.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pc := &v1alpha1.PodCheckpoint{}
	if err := r.Client.Get(ctx, req.NamespacedName, pc); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !Concerns(pc) {
		return reconcile.Result{}, nil
	}
	source, wait, err := r.source(ctx, pc)
	if err != nil || wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, err
	}
	c := Case{Checkpoint: pc, Source: source, Now: r.Clock.Now()}
	if c.Siblings, err = index.Saving(ctx, r.Client, pc.Namespace, pc.Spec.PodUID); err != nil {
		return reconcile.Result{}, err
	}
	if source.Pod != nil && source.ending() {
		if err := r.observeEnd(ctx, &c); err != nil {
			return reconcile.Result{}, err
		}
	}
	v := Judge(c)
	switch {
	case v.Fail != nil:
		return reconcile.Result{}, r.fail(ctx, v.Fail)
	case v.Status == nil:
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, r.write(ctx, pc, v)
}

// observeEnd fills in what the verdict about a pod that ends depends on. What leads to a claim is read from the API server: of the pod's
// checkpoints, that none with a fence can come up any more.
func (r *Reconciler) observeEnd(ctx context.Context, c *Case) error {
	node := &corev1.Node{}
	err := r.Live.Get(ctx, client.ObjectKey{Name: c.Checkpoint.Spec.NodeName}, node)
	switch {
	case err == nil:
		c.Node = node
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("reading node %q: %w", c.Checkpoint.Spec.NodeName, err)
	}
	if lost, _ := match.Lost(c.Source.Pod, c.Node); !lost {
		return nil
	}
	var pods corev1.PodList
	if err := r.Client.List(ctx, &pods, client.InNamespace(c.Checkpoint.Namespace)); err != nil {
		return fmt.Errorf("listing the pods of namespace %q: %w", c.Checkpoint.Namespace, err)
	}
	c.Peers = pods.Items
	if match.StandIn(c.Peers, c.Source.Pod) != nil {
		if c.Lacks, err = r.lacks(ctx, c.Checkpoint, c.Peers); err != nil {
			return err
		}
	}
	var all v1alpha1.PodCheckpointList
	// By the label without which none can be claimed.
	err = r.Live.List(ctx, &all, client.InNamespace(c.Checkpoint.Namespace),
		client.MatchingLabels{v1alpha1.LabelOwnerUID: c.Checkpoint.Labels[v1alpha1.LabelOwnerUID]})
	if err != nil {
		return fmt.Errorf("listing the PodCheckpoints of pod %q: %w", c.Checkpoint.Spec.PodName, err)
	}
	c.Siblings = slices.DeleteFunc(all.Items, func(pc v1alpha1.PodCheckpoint) bool { return pc.Spec.PodUID != c.Checkpoint.Spec.PodUID })
	return nil
}

// lacks tells whether the owner of the checkpoint's pod, whose pods are interchangeable, is certain to lack one. When a node dies, its pods
// go within the same second, in which Kubernetes's times are one: a pod that was made for one of them is not one for each.
func (r *Reconciler) lacks(ctx context.Context, pc *v1alpha1.PodCheckpoint, peers []corev1.Pod) (bool, error) {
	owner := expiry.NewOwner(pc.Status.Owner)
	if owner == nil || pc.Status.Owner.Slot != "" {
		return false, nil
	}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: pc.Namespace, Name: pc.Status.Owner.Name}, owner)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading %s %q: %w", pc.Status.Owner.Kind, pc.Status.Owner.Name, err)
	}
	return expiry.NotWanted(pc, owner, peers) == "", nil
}

// write writes the verdict on top of the version that it was made on. Another writer's conflict is no error: its change brings the object
// back here.
func (r *Reconciler) write(ctx context.Context, pc *v1alpha1.PodCheckpoint, v Verdict) error {
	next := pc.DeepCopy()
	next.Status = *v.Status
	if err := r.Client.Status().Update(ctx, next); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("writing PodCheckpoint %q: %w", pc.Name, err)
	}
	log.FromContext(ctx).Info("PodCheckpoint changed", "phase", next.Status.Phase, "sourceLost", v.Lost, "why", next.Status.Message)
	metrics.CountCheckpoint(pc.Spec.Reason, v.Outcome)
	if v.Event.Reason != "" {
		event.Publish(r.Events, v.Event, next, nil)
	}
	return nil
}

// fail ends an attempt whose agent is gone, so that it can't become Ready any more. Its change brings the others of the pod back here.
func (r *Reconciler) fail(ctx context.Context, pc *v1alpha1.PodCheckpoint) error {
	message := fmt.Sprintf("Pod %q was lost with its node while it was being saved", pc.Spec.PodName)
	next, now := pc.DeepCopy(), r.Clock.Now()
	next.Status.Enter(v1alpha1.PhaseFailed, message, now)
	meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: event.ReasonFailed, Message: message,
		LastTransitionTime: metav1.NewTime(now),
	})
	if err := r.Client.Status().Update(ctx, next); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("ending PodCheckpoint %q: %w", pc.Name, err)
	}
	metrics.CountCheckpoint(pc.Spec.Reason, metrics.OutcomeFailed)
	event.Publish(r.Events, event.Event{
		Type: corev1.EventTypeWarning, Reason: event.ReasonFailed, Action: "GiveUp", Message: message + "; an older checkpoint is looked for",
	}, next, nil)
	return nil
}
