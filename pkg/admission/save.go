// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/budget"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
	"github.com/cryopod/cryopod/pkg/termination"
)

// observe fills in what the decision about an opted-in pod needs. The cache tells which checkpoints there are; the latest is
// read anew, as the cache may be behind. One that the cache lacks altogether is met when its name turns out to be taken. About a pod that is
// not to be saved no more is asked.
func (k *Keeper) observe(ctx context.Context, c *Case, s source) error {
	var list v1alpha1.PodCheckpointList
	err := k.Cached.List(ctx, &list, client.InNamespace(c.Pod.Namespace),
		client.MatchingLabels{v1alpha1.LabelPodUID: string(c.Pod.UID)})
	if err != nil {
		return fmt.Errorf("listing the PodCheckpoints of pod %q: %w", c.Pod.Name, err)
	}
	for i := range list.Items {
		c.Checkpoints = append(c.Checkpoints, &list.Items[i])
	}
	if cur := current(c.Checkpoints, c.Now); cur != nil {
		if err := k.refresh(ctx, c, cur); err != nil {
			return err
		}
	}
	if !wanted(*c, current(c.Checkpoints, c.Now)) {
		return nil
	}
	if err := k.observeProfile(ctx, c); err != nil {
		return err
	}
	return s.observe(ctx, c)
}

// observeProfile fills in what the agent of the pod's node says.
func (k *Keeper) observeProfile(ctx context.Context, c *Case) error {
	profile, err := k.profiles.Get(ctx, c.Pod.Spec.NodeName)
	if err != nil || profile == nil {
		return err
	}
	c.Profile = profile
	if n := profile.Status.Notice; n != nil && n.Deadline.After(c.Now) && (len(n.Pods) == 0 || slices.Contains(n.Pods, c.Pod.UID)) {
		c.Limit = c.limit(n.Deadline.Time)
	}
	return nil
}

// readProfile reads what the agent of a node says, nil when there is nothing.
func (d Dependencies) readProfile(ctx context.Context, name string) (*v1alpha1.NodeProfile, error) {
	profile := &v1alpha1.NodeProfile{}
	err := d.Live.Get(ctx, client.ObjectKey{Name: name}, profile)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading NodeProfile %q: %w", name, err)
	}
	// It stays in memory for as long as requests are held. The node's images, which are most of it, are the scheduler's.
	profile.Status.ImageIndex = nil
	return profile, nil
}

// observeBudgets fills in what a request that has to respect PodDisruptionBudgets needs beside.
func (k *Keeper) observeBudgets(ctx context.Context, c *Case) error {
	all, err := k.budgets.Get(ctx, c.Pod.Namespace)
	if err != nil {
		return err
	}
	c.Budgets = all
	if len(budget.Matching(c.Pod, all)) == 0 {
		return nil
	}
	others, err := rivals(ctx, k.Cached, c.Pod, c.Now)
	if err != nil {
		return err
	}
	c.Rivals = len(others)
	return nil
}

func (d Dependencies) readBudgets(ctx context.Context, namespace string) ([]policyv1.PodDisruptionBudget, error) {
	var budgets policyv1.PodDisruptionBudgetList
	if err := d.Live.List(ctx, &budgets, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing the PodDisruptionBudgets of namespace %q: %w", namespace, err)
	}
	return budgets.Items, nil
}

// observeNode reads the pod's node, nil when it is gone or can't be read, tells whether its end is announced, and notes in the case when
// that is and whether anybody is there. Much can be decided without it.
func (k *Keeper) observeNode(ctx context.Context, c *Case) (node *corev1.Node, ends bool) {
	node, err := k.nodes.Get(ctx, c.Pod.Spec.NodeName)
	if err != nil {
		logf.FromContext(ctx).Error(err, "Deciding without knowing whether the pod's node ends", "node", c.Pod.Spec.NodeName)
	}
	if err != nil || node == nil {
		return nil, false
	}
	c.Silent = silent(node)
	notice, ends := termination.Running(node, c.Now)
	if ends && !notice.Voluntary {
		c.Limit = c.limit(notice.Deadline.Add(-notice.Margin()))
	}
	return node, ends
}

// readNode reads a node, nil when it is gone.
func (d Dependencies) readNode(ctx context.Context, name string) (*corev1.Node, error) {
	node := &corev1.Node{}
	err := d.Live.Get(ctx, client.ObjectKey{Name: name}, node)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading node %q: %w", name, err)
	}
	return node, nil
}

// silent tells whether nothing was heard of the node's kubelet for so long that the node controller has said so.
func silent(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionUnknown
	})
}

// refresh reads the checkpoint anew into the case.
func (k *Keeper) refresh(ctx context.Context, c *Case, pc *v1alpha1.PodCheckpoint) error {
	var live v1alpha1.PodCheckpoint
	err := k.Live.Get(ctx, client.ObjectKeyFromObject(pc), &live)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading PodCheckpoint %q: %w", pc.Name, err)
	}
	c.Checkpoints = slices.DeleteFunc(c.Checkpoints, func(p *v1alpha1.PodCheckpoint) bool { return p.Name == pc.Name })
	if err == nil && live.Spec.PodUID == c.Pod.UID {
		c.Checkpoints = append(c.Checkpoints, &live)
	}
	return nil
}

// goesOn takes the checkpoint from the cache, which has told that it changed, into the case, and tells whether it is still being made: then there
// is nothing to decide that would need to be certain.
func (k *Keeper) goesOn(ctx context.Context, c *Case, pc *v1alpha1.PodCheckpoint) bool {
	var now v1alpha1.PodCheckpoint
	if err := k.Cached.Get(ctx, client.ObjectKeyFromObject(pc), &now); err != nil || now.UID != pc.UID {
		return false
	}
	switch now.Status.Phase {
	case v1alpha1.PhasePending, v1alpha1.PhaseFreezing, v1alpha1.PhaseDumping, v1alpha1.PhaseExporting:
	default:
		return false
	}
	i := slices.IndexFunc(c.Checkpoints, func(p *v1alpha1.PodCheckpoint) bool { return p.Name == pc.Name })
	if i < 0 {
		return false
	}
	c.Checkpoints[i] = &now
	return true
}

// begin makes the PodCheckpoint, or takes the one that another replica has made. It gives back what ends the request instead, if
// anything does.
func (k *Keeper) begin(ctx context.Context, c *Case, d Decision) (*Decision, error) {
	pc := match.NewCheckpoint(c.Pod, match.Request{
		Attempt: d.Attempt, Reason: reasonOf(c.Trigger), Deadline: d.Deadline, Fence: true, Removal: removal(c),
	})
	err := k.Writer.Create(ctx, pc)
	if apierrors.IsAlreadyExists(err) {
		known := len(c.Checkpoints)
		if err := k.refresh(ctx, c, pc); err != nil {
			return nil, err
		}
		if len(c.Checkpoints) == known {
			return nil, fmt.Errorf("the name %q is taken by a checkpoint of another pod", pc.Name)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(budget.Matching(c.Pod, c.Budgets)) > 0 {
		back, err := k.yield(ctx, c, pc)
		if err != nil {
			logf.FromContext(ctx).Error(err, "Saving a pod without knowing whether its budget allows it")
		} else if back != nil {
			return back, nil
		}
	}
	c.Checkpoints = append(c.Checkpoints, pc)
	checkpointStarted(k.Events, c, pc)
	return nil, nil
}

// reasonOf is the reason of a checkpoint that is made for the trigger.
func reasonOf(t v1alpha1.Trigger) v1alpha1.Reason {
	switch t {
	case v1alpha1.TriggerTermination:
		return v1alpha1.ReasonTermination
	case v1alpha1.TriggerPreemption:
		return v1alpha1.ReasonPreemption
	case v1alpha1.TriggerDelete:
		return v1alpha1.ReasonDeletion
	}
	return v1alpha1.ReasonEviction
}

// giveUp fails a checkpoint that its agent has not begun. An agent that begins it at this moment wins.
func (k *Keeper) giveUp(ctx context.Context, c *Case, d Decision) error {
	pc := d.Checkpoint.DeepCopy()
	now := k.Clock.Now()
	pc.Status.Enter(v1alpha1.PhaseFailed, d.Why, now)
	meta.SetStatusCondition(&pc.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "AgentAway", Message: d.Why,
		LastTransitionTime: metav1.NewTime(now),
	})
	err := k.Writer.Status().Update(ctx, pc)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return k.refresh(ctx, c, pc)
	}
	if err != nil {
		return fmt.Errorf("failing PodCheckpoint %q: %w", pc.Name, err)
	}
	metrics.CountCheckpoint(pc.Spec.Reason, metrics.OutcomeFailed)
	c.Checkpoints = slices.DeleteFunc(c.Checkpoints, func(p *v1alpha1.PodCheckpoint) bool { return p.Name == pc.Name })
	c.Checkpoints = append(c.Checkpoints, pc)
	return nil
}
