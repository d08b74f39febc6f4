// SPDX-License-Identifier: Apache-2.0

// Package schedule saves running pods again and again, each at the interval that its owner wishes (v1alpha1.AnnotationInterval). These
// checkpoints leave the pod running. What becomes of them is up to package standby.
package schedule

import (
	"context"
	"fmt"
	"sync"

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
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
	"github.com/cryopod/cryopod/pkg/wish"
)

// Name is the controller's name.
const Name = "checkpoint.schedule"

const workers = 4

// Reconciler reconciles the schedules of pods.
type Reconciler struct {
	// Client reads pods, PodCheckpoints, nodes and NodeProfiles from the cache, and writes.
	Client client.Client
	// Events gets the events.
	Events event.Recorder
	// Clock tells the time.
	Clock clock.PassiveClock

	mu sync.Mutex
	// pods is what is known of pods with a schedule besides their PodCheckpoints. It ends with the leader: then a pod that can't be saved
	// is tried once more, and its owner told once more.
	pods map[types.NamespacedName]memory
}

type memory struct {
	uid types.UID
	// past is what became of the schedule.
	past Past
	// told is whether the owner knows that the schedule is not kept.
	told bool
}

// Register adds the controller to the manager, whose cache has the indexes of package index.
func (r *Reconciler) Register(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).Named(Name).
		For(&corev1.Pod{}).
		Watches(&v1alpha1.PodCheckpoint{}, handler.EnqueueRequestsFromMapFunc(toPod)).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.toPods), builder.WithPredicates(noticeChanges())).
		Watches(&v1alpha1.NodeProfile{}, handler.EnqueueRequestsFromMapFunc(r.toPods), builder.WithPredicates(abilityChanges())).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
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

// toPods are the pods with a schedule on the node whose name the object has.
func (r *Reconciler) toPods(ctx context.Context, node client.Object) []reconcile.Request {
	pods, err := index.OnNode(ctx, r.Client, node.GetName())
	if err != nil {
		log.FromContext(ctx).Error(err, "Looking up the pods of a node failed")
		return nil
	}
	var requests []reconcile.Request
	for i := range pods {
		pod := &pods[i]
		if _, wished := wish.Interval(pod); wished {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pod)})
		}
	}
	return requests
}

// noticeChanges are the changes of nodes that matter here: their end is announced, or called off.
func noticeChanges() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(ctrlevent.CreateEvent) bool { return false },
		DeleteFunc: func(ctrlevent.DeleteEvent) bool { return false },
		UpdateFunc: func(e ctrlevent.UpdateEvent) bool {
			return e.ObjectOld.GetAnnotations()[v1alpha1.AnnotationNotice] != e.ObjectNew.GetAnnotations()[v1alpha1.AnnotationNotice]
		},
	}
}

// abilityChanges are the changes of NodeProfiles that matter here: whether the node can save pods, and whether its end is announced.
func abilityChanges() predicate.Predicate {
	able := func(obj client.Object) (can, ends bool) {
		p, ok := obj.(*v1alpha1.NodeProfile)
		return ok && meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionCanCheckpoint), ok && p.Status.Notice != nil
	}
	return predicate.Funcs{
		DeleteFunc: func(ctrlevent.DeleteEvent) bool { return false },
		UpdateFunc: func(e ctrlevent.UpdateEvent) bool {
			could, ended := able(e.ObjectOld)
			can, ends := able(e.ObjectNew)
			return can != could || ends != ended
		},
	}
}

// Reconcile takes the next step of one pod's schedule.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pod := &corev1.Pod{}
	if err := r.Client.Get(ctx, req.NamespacedName, pod); err != nil {
		r.forget(req.NamespacedName)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if _, wished := wish.Interval(pod); !wished {
		return reconcile.Result{}, nil
	}
	known := r.recall(pod)
	c := Case{Pod: pod, Past: known.past, Now: r.Clock.Now()}
	if err := r.observe(ctx, &c); err != nil {
		return reconcile.Result{}, err
	}
	step := Next(c)
	if step.Past.Attempt > 0 {
		known.past = step.Past
	}
	known.told = r.tell(pod, step, known.told)
	r.remember(req.NamespacedName, known)
	switch {
	case step.GiveWay != nil:
		return reconcile.Result{}, r.giveWay(ctx, step.GiveWay)
	case step.Attempt > 0:
		return reconcile.Result{}, r.begin(ctx, pod, step)
	default:
		return reconcile.Result{RequeueAfter: step.After}, nil
	}
}

func (r *Reconciler) observe(ctx context.Context, c *Case) error {
	var err error
	if c.Checkpoints, err = index.Saving(ctx, r.Client, c.Pod.Namespace, c.Pod.UID); err != nil {
		return err
	}
	key := client.ObjectKey{Name: c.Pod.Spec.NodeName}
	if key.Name == "" {
		return nil
	}
	node, profile := &corev1.Node{}, &v1alpha1.NodeProfile{}
	if err := r.Client.Get(ctx, key, node); err == nil {
		c.Node = node
	} else if !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading node %q: %w", key.Name, err)
	}
	if err := r.Client.Get(ctx, key, profile); err == nil {
		c.Profile = profile
	} else if !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading NodeProfile %q: %w", key.Name, err)
	}
	return nil
}

// begin makes the PodCheckpoint. Where its name is taken, the cache is behind, and what it lacks brings the pod back here.
func (r *Reconciler) begin(ctx context.Context, pod *corev1.Pod, step Step) error {
	pc := match.NewCheckpoint(pod, match.Request{
		Attempt: step.Attempt, Reason: v1alpha1.ReasonSchedule, Deadline: step.Deadline, Removal: v1alpha1.RemovalNone,
	})
	if err := r.Client.Create(ctx, pc); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making PodCheckpoint %q: %w", pc.Name, err)
	}
	log.FromContext(ctx).V(1).Info("A checkpoint is due", "podCheckpoint", pc.Name)
	return nil
}

// giveWay ends an attempt under way: its agent lets go of the pod, and takes up the one that waits.
func (r *Reconciler) giveWay(ctx context.Context, pc *v1alpha1.PodCheckpoint) error {
	const message = "It made way for a checkpoint of the same pod, which is about to go"
	next, now := pc.DeepCopy(), r.Clock.Now()
	next.Status.Enter(v1alpha1.PhaseFailed, message, now)
	meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reasonGaveWay, Message: message,
		LastTransitionTime: metav1.NewTime(now),
	})
	if err := r.Client.Status().Update(ctx, next); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("ending PodCheckpoint %q: %w", pc.Name, err)
	}
	metrics.CountCheckpoint(pc.Spec.Reason, metrics.OutcomeFailed)
	log.FromContext(ctx).Info("A checkpoint on a schedule made way", "podCheckpoint", pc.Name)
	return nil
}

// tell tells the pod's owner, unless that was told, that the schedule is not kept, and returns whether the owner knows.
func (r *Reconciler) tell(pod *corev1.Pod, step Step, told bool) bool {
	switch {
	case step.Never == "" && step.Trouble == "":
		// While the next attempt is under way, it is not known how that ends.
		return told && step.After == 0
	case told:
	case step.Never != "":
		event.Publish(r.Events, neverEvent(step.Never), nil, pod)
	default:
		event.Publish(r.Events, troubleEvent(step.Trouble), nil, pod)
	}
	return true
}

// recall is what is remembered of the pod, and not of another one that had its name.
func (r *Reconciler) recall(pod *corev1.Pod) memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.pods[client.ObjectKeyFromObject(pod)]; ok && m.uid == pod.UID {
		return m
	}
	return memory{uid: pod.UID}
}

func (r *Reconciler) remember(key types.NamespacedName, m memory) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pods == nil {
		r.pods = map[types.NamespacedName]memory{}
	}
	r.pods[key] = m
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pods, key)
}
