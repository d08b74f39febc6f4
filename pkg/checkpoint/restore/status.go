// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/metrics"
)

func (r *Reconciler) writeRestored(ctx context.Context, pod *corev1.Pod, pc *v1alpha1.PodCheckpoint) error {
	now := r.Clock.Now()
	took := now.Sub(pc.Status.Claim.Time.Time)
	happened := restoredEvent(pc, pod.Spec.NodeName, took)
	next := bound(pc, pod)
	next.Status.Enter(v1alpha1.PhaseRestored, happened.Message, now)
	meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionRestored, Status: metav1.ConditionTrue, Reason: event.ReasonRestored,
		Message: happened.Message, LastTransitionTime: metav1.NewTime(now),
	})
	written, err := r.update(ctx, next)
	if err != nil || !written {
		return err
	}
	metrics.CountRestore(v1alpha1.RestoreMethodImage, metrics.RestoreDone)
	metrics.ObserveRestore(v1alpha1.RestoreMethodImage, took)
	metrics.ObservePhase(v1alpha1.PhaseClaimed, took)
	event.Publish(r.Events, happened, next, pod)
	return nil
}

func (r *Reconciler) writeFailed(ctx context.Context, pod *corev1.Pod, pc *v1alpha1.PodCheckpoint, v Verdict) error {
	now := r.Clock.Now()
	happened := restoreFailedEvent(pc.Name, v.Why, ended(pod))
	next := bound(pc, pod)
	next.Status.Enter(v1alpha1.PhaseFailed, happened.Message, now)
	meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionRestored, Status: metav1.ConditionFalse, Reason: event.ReasonRestoreFailed,
		Message: happened.Message, LastTransitionTime: metav1.NewTime(now),
	})
	written, err := r.update(ctx, next)
	if err != nil || !written {
		return err
	}
	metrics.CountRestore(v1alpha1.RestoreMethodImage, metrics.RestoreFellBack)
	metrics.CountCheckpoint(pc.Spec.Reason, metrics.OutcomeFailed)
	metrics.ObservePhase(v1alpha1.PhaseClaimed, now.Sub(pc.Status.Claim.Time.Time))
	event.Publish(r.Events, happened, next, pod)
	return nil
}

// bound is a copy of the PodCheckpoint whose claim names the pod and its node.
func bound(pc *v1alpha1.PodCheckpoint, pod *corev1.Pod) *v1alpha1.PodCheckpoint {
	next := pc.DeepCopy()
	next.Status.Claim.PodName = pod.Name
	next.Status.Claim.PodUID = pod.UID
	next.Status.Claim.NodeName = pod.Spec.NodeName
	return next
}

// update writes the status on top of the version that was read, and reports whether it did. Another writer's conflict is no
// error: its change brings the pod back here.
func (r *Reconciler) update(ctx context.Context, next *v1alpha1.PodCheckpoint) (bool, error) {
	if err := r.Client.Status().Update(ctx, next); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("writing PodCheckpoint %q: %w", next.Name, err)
	}
	log.FromContext(ctx).Info("PodCheckpoint changed", "podCheckpoint", next.Name, "phase", next.Status.Phase)
	return true, nil
}
