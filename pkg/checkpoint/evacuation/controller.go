// SPDX-License-Identifier: Apache-2.0

// Package evacuation has the pods of a node that ends saved, and ended by us, before the node is gone. A node ends when a taint says so
// (package termination) or its agent does (the notice in its NodeProfile).
package evacuation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/checkpoint/removal"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
	"github.com/cryopod/cryopod/pkg/termination"
)

// Name is the controller's name.
const Name = "checkpoint.evacuation"

// workers is how many nodes are evacuated at a time: a zone may go at once.
const workers = 16

// Reconciler reconciles nodes that end. What it has done is in the objects: another one goes on where it stopped.
type Reconciler struct {
	removal.Remover
	// Taints are those that announce a node's end.
	Taints termination.List

	story story
}

// Reconcile looks after one node.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (ctrl.Result, error) {
	node := &corev1.Node{}
	if err := r.Client.Get(ctx, req.NamespacedName, node); err != nil {
		r.story.forget(req.Name)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	node, err := r.stamp(ctx, node)
	if err != nil {
		return ctrl.Result{}, err
	}
	profile, err := r.profile(ctx, node.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	endings := Endings(node, profile, r.Clock.Now())
	if len(endings) == 0 {
		err := errors.Join(r.conclude(ctx, node), r.callOff(ctx, node, profile))
		r.story.forget(node.Name)
		return ctrl.Result{}, err
	}
	after := time.Duration(0)
	for _, e := range endings {
		next, err := r.evacuate(ctx, node, e, profile)
		if err != nil {
			return ctrl.Result{}, err
		}
		after = sooner(after, next)
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// stamp makes the node's annotation say what its taints announce, where no webhook did.
func (r *Reconciler) stamp(ctx context.Context, node *corev1.Node) (*corev1.Node, error) {
	value, change := r.Taints.Stamp(node, r.Clock.Now())
	if !change {
		return node, nil
	}
	annotations := map[string]any{v1alpha1.AnnotationNotice: nil}
	if value != "" {
		annotations[v1alpha1.AnnotationNotice] = value
	}
	// Marshalling plain strings has no way to fail.
	patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"uid": node.UID, "annotations": annotations}})
	target := &corev1.Node{}
	target.Name = node.Name
	if err := r.Client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return nil, fmt.Errorf("noting on node %q when it ends: %w", node.Name, err)
	}
	log.FromContext(ctx).Info("Noted on a node when it ends, which no webhook had done", "notice", value)
	stamped := node.DeepCopy()
	if value == "" {
		delete(stamped.Annotations, v1alpha1.AnnotationNotice)
		return stamped, nil
	}
	if stamped.Annotations == nil {
		stamped.Annotations = map[string]string{}
	}
	stamped.Annotations[v1alpha1.AnnotationNotice] = value
	return stamped, nil
}

func (r *Reconciler) profile(ctx context.Context, node string) (*v1alpha1.NodeProfile, error) {
	profile := &v1alpha1.NodeProfile{}
	err := r.Client.Get(ctx, client.ObjectKey{Name: node}, profile)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading NodeProfile %q: %w", node, err)
	}
	return profile, nil
}

// callOff lets the pods go on that stand still, or are about to, for a notice that was withdrawn.
func (r *Reconciler) callOff(ctx context.Context, node *corev1.Node, profile *v1alpha1.NodeProfile) error {
	now := r.Clock.Now()
	if removal.Ending(node, profile, r.Taints, now) {
		return nil
	}
	made, err := index.FromNode(ctx, r.Client, node.Name)
	if err != nil {
		return err
	}
	var errs []error
	for i := range made {
		if removal.ForItsNode(&made[i]) {
			errs = append(errs, removal.CallOff(ctx, r.Client, &made[i], "the end of its node was called off", now))
		}
	}
	return errors.Join(errs...)
}

// evacuate takes the next steps of a node that ends, and returns when to look again at the latest.
func (r *Reconciler) evacuate(ctx context.Context, node *corev1.Node, e Ending, profile *v1alpha1.NodeProfile) (time.Duration, error) {
	c, err := r.observe(ctx, e, profile)
	if err != nil {
		return 0, err
	}
	now := r.Clock.Now()
	plan := Plan(c, now)
	if err := r.announce(ctx, node, e, plan); err != nil {
		return 0, err
	}
	after := e.Deadline.Sub(now) + time.Millisecond
	var errs []error
	for _, a := range plan {
		next, err := r.carryOut(ctx, e, a)
		errs = append(errs, err)
		after = sooner(after, next)
	}
	if len(plan) == 0 {
		errs = append(errs, r.conclude(ctx, node))
	}
	return after, errors.Join(errs...)
}

// observe gathers what the plan depends on. Budgets are asked for only where they are respected, and where there is a pod.
func (r *Reconciler) observe(ctx context.Context, e Ending, profile *v1alpha1.NodeProfile) (Case, error) {
	c := Case{Ending: e, Profile: profile, Checkpoints: map[types.UID][]v1alpha1.PodCheckpoint{}, Rivals: map[types.UID]int{}}
	pods, err := index.OnNode(ctx, r.Client, e.Node)
	if err != nil {
		return Case{}, err
	}
	namespaces := map[string]bool{}
	for i := range pods {
		pod := &pods[i]
		if !c.concerns(pod) {
			continue
		}
		c.Pods = append(c.Pods, *pod)
		if c.Checkpoints[pod.UID], err = index.Saving(ctx, r.Client, pod.Namespace, pod.UID); err != nil {
			return Case{}, err
		}
		if e.Removal != v1alpha1.RemovalEvict {
			continue
		}
		if err := r.observeBudgets(ctx, &c, pod, namespaces); err != nil {
			return Case{}, err
		}
	}
	return c, nil
}

// observeBudgets adds the budgets of the pod's namespace, once, and its owner's pods that are being moved.
func (r *Reconciler) observeBudgets(ctx context.Context, c *Case, pod *corev1.Pod, seen map[string]bool) error {
	if !seen[pod.Namespace] {
		var list policyv1.PodDisruptionBudgetList
		if err := r.Live.List(ctx, &list, client.InNamespace(pod.Namespace)); err != nil {
			return fmt.Errorf("listing the PodDisruptionBudgets of namespace %q: %w", pod.Namespace, err)
		}
		seen[pod.Namespace] = true
		c.Budgets = append(c.Budgets, list.Items...)
	}
	owner := ownerOf(pod)
	if _, known := c.Rivals[owner]; known {
		return nil
	}
	var moving v1alpha1.PodCheckpointList
	err := r.Client.List(ctx, &moving, client.InNamespace(pod.Namespace), client.MatchingLabels{v1alpha1.LabelOwnerUID: string(owner)})
	if err != nil {
		return fmt.Errorf("listing the PodCheckpoints of the owner of pod %q: %w", pod.Name, err)
	}
	c.Rivals[owner] = 0
	for i := range moving.Items {
		if match.MayBeFrozen(&moving.Items[i], r.Clock.Now()) {
			c.Rivals[owner]++
		}
	}
	return nil
}

// carryOut does what was planned for one pod, and returns when to look again at the latest.
func (r *Reconciler) carryOut(ctx context.Context, e Ending, a Action) (time.Duration, error) {
	switch a.Do {
	case Begin:
		return 0, r.start(ctx, e, a)
	case GiveUp:
		return 0, r.giveUp(ctx, a)
	case Remove:
		refused, err := r.Remove(ctx, removal.Order{
			Pod: a.Pod, Checkpoint: a.Checkpoint, Reason: e.Reason, How: e.Removal, Cold: a.Cold,
		})
		switch {
		case refused != "":
			return removal.RefusedPause, err
		case err == nil && a.Checkpoint == nil:
			r.story.wentCold(e.Node)
		}
		return 0, err
	}
	return a.After, nil
}

// start makes the PodCheckpoint. One of that name was made a moment ago: the cache is behind.
func (r *Reconciler) start(ctx context.Context, e Ending, a Action) error {
	pc := match.NewCheckpoint(a.Pod, a.Request)
	if err := r.Client.Create(ctx, pc); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return fmt.Errorf("making PodCheckpoint %q: %w", pc.Name, err)
	}
	r.Events.Eventf(a.Pod, pc, corev1.EventTypeNormal, "CheckpointStarted", "Checkpoint",
		"The node ends at %s (%s): the pod is to be saved, and goes by %s, with its checkpoint or without",
		e.Deadline.UTC().Format(time.RFC3339), e.Cause, a.Request.Deadline.UTC().Format(time.RFC3339))
	return nil
}

// giveUp fails an attempt that its agent has not begun. An agent that begins it at this moment wins.
func (r *Reconciler) giveUp(ctx context.Context, a Action) error {
	pc, now := a.Checkpoint.DeepCopy(), r.Clock.Now()
	pc.Status.Enter(v1alpha1.PhaseFailed, a.Cold, now)
	meta.SetStatusCondition(&pc.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "AgentAway", Message: a.Cold,
		LastTransitionTime: metav1.NewTime(now),
	})
	if err := r.Client.Status().Update(ctx, pc); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("failing PodCheckpoint %q: %w", pc.Name, err)
	}
	metrics.CountCheckpoint(pc.Spec.Reason, metrics.OutcomeFailed)
	return nil
}

// sooner is the earlier of two times to look again, of which 0 is never.
func sooner(a, b time.Duration) time.Duration {
	switch {
	case a <= 0:
		return b
	case b <= 0:
		return a
	}
	return min(a, b)
}
