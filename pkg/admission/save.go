// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"slices"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// observe fills in what the decision about an opted-in pod needs. The cache tells which checkpoints there are; the latest is
// read anew, as the cache may be behind. One that the cache lacks altogether is met when its name turns out to be taken.
func (h *Eviction) observe(ctx context.Context, c *Case) error {
	var list v1alpha1.PodCheckpointList
	err := h.Cached.List(ctx, &list, client.InNamespace(c.Pod.Namespace),
		client.MatchingLabels{v1alpha1.LabelPodUID: string(c.Pod.UID)})
	if err != nil {
		return fmt.Errorf("listing the PodCheckpoints of pod %q: %w", c.Pod.Name, err)
	}
	for i := range list.Items {
		c.Checkpoints = append(c.Checkpoints, &list.Items[i])
	}
	if cur := current(c.Checkpoints, c.Now); cur != nil {
		if err := h.refresh(ctx, c, cur); err != nil {
			return err
		}
	}
	var budgets policyv1.PodDisruptionBudgetList
	if err := h.Live.List(ctx, &budgets, client.InNamespace(c.Pod.Namespace)); err != nil {
		return fmt.Errorf("listing the PodDisruptionBudgets of namespace %q: %w", c.Pod.Namespace, err)
	}
	c.Budgets = budgets.Items
	others, err := rivals(ctx, h.Cached, c.Pod, c.Now)
	if err != nil {
		return err
	}
	c.Rivals = len(others)
	var profile v1alpha1.NodeProfile
	err = h.Live.Get(ctx, client.ObjectKey{Name: c.Pod.Spec.NodeName}, &profile)
	if err == nil {
		c.Profile = &profile
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading NodeProfile %q: %w", c.Pod.Spec.NodeName, err)
	}
	return nil
}

// refresh reads the checkpoint anew into the case.
func (h *Eviction) refresh(ctx context.Context, c *Case, pc *v1alpha1.PodCheckpoint) error {
	var live v1alpha1.PodCheckpoint
	err := h.Live.Get(ctx, client.ObjectKeyFromObject(pc), &live)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading PodCheckpoint %q: %w", pc.Name, err)
	}
	c.Checkpoints = slices.DeleteFunc(c.Checkpoints, func(p *v1alpha1.PodCheckpoint) bool { return p.Name == pc.Name })
	if err == nil && live.Spec.PodUID == c.Pod.UID {
		c.Checkpoints = append(c.Checkpoints, &live)
	}
	return nil
}

// begin makes the PodCheckpoint, or takes the one that another replica has made. It gives back what ends the request instead, if
// anything does.
func (h *Eviction) begin(ctx context.Context, c *Case, d Decision) (*Decision, error) {
	pc := match.NewCheckpoint(c.Pod, match.Request{
		Attempt: d.Attempt, Reason: v1alpha1.ReasonEviction, Deadline: d.Deadline, Fence: true,
	})
	err := h.Writer.Create(ctx, pc)
	if apierrors.IsAlreadyExists(err) {
		known := len(c.Checkpoints)
		if err := h.refresh(ctx, c, pc); err != nil {
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
	if len(matching(c.Pod, c.Budgets)) > 0 {
		back, err := h.yield(ctx, c, pc)
		if err != nil {
			logf.FromContext(ctx).Error(err, "Saving a pod without knowing whether its budget allows it")
		} else if back != nil {
			return back, nil
		}
	}
	c.Checkpoints = append(c.Checkpoints, pc)
	checkpointStarted(h.Events, c.Pod, pc)
	return nil, nil
}

// giveUp fails a checkpoint that its agent has not begun. An agent that begins it at this moment wins.
func (h *Eviction) giveUp(ctx context.Context, c *Case, d Decision) error {
	pc := d.Checkpoint.DeepCopy()
	now := h.Clock.Now()
	pc.Status.Enter(v1alpha1.PhaseFailed, d.Why, now)
	meta.SetStatusCondition(&pc.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "AgentAway", Message: d.Why,
		LastTransitionTime: metav1.NewTime(now),
	})
	err := h.Writer.Status().Update(ctx, pc)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return h.refresh(ctx, c, pc)
	}
	if err != nil {
		return fmt.Errorf("failing PodCheckpoint %q: %w", pc.Name, err)
	}
	metrics.CountCheckpoint(pc.Spec.Reason, metrics.OutcomeFailed)
	c.Checkpoints = slices.DeleteFunc(c.Checkpoints, func(p *v1alpha1.PodCheckpoint) bool { return p.Name == pc.Name })
	c.Checkpoints = append(c.Checkpoints, pc)
	return nil
}
