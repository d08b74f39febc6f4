// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// errLost means that a PodCheckpoint is not any more as its attempt left it: someone else decided what becomes of it.
var errLost = errors.New("checkpoint was taken out of the agent's hands")

// maxMessage is the longest status message that the API takes, in bytes.
const maxMessage = 1024

// write moves pc to a phase by one status update under its resourceVersion. On success pc is the written object. What mutate does to the
// status comes last.
func (r *Reconciler) write(ctx context.Context, pc *v1alpha1.PodCheckpoint, phase v1alpha1.Phase, message string,
	mutate func(*v1alpha1.PodCheckpointStatus),
) error {
	next := pc.DeepCopy()
	now := metav1.NewMicroTime(r.Clock.Now())
	next.Status.Phase, next.Status.Message = phase, shorten(message)
	next.Status.Timings = append(next.Status.Timings, v1alpha1.PhaseTiming{Phase: phase, Time: now})
	if condition := readyCondition(phase, next.Status.Message); condition != nil {
		condition.ObservedGeneration = next.Generation
		condition.LastTransitionTime = metav1.NewTime(now.Time)
		meta.SetStatusCondition(&next.Status.Conditions, *condition)
	}
	if mutate != nil {
		mutate(&next.Status)
	}
	if err := r.Client.Status().Update(ctx, next); err != nil {
		return fmt.Errorf("writing phase %s of checkpoint %q: %w", phase, client.ObjectKeyFromObject(pc), err)
	}
	metrics.ObservePhase(phaseOf(pc), now.Sub(enteredAt(pc, phaseOf(pc))))
	*pc = *next
	return nil
}

func readyCondition(phase v1alpha1.Phase, message string) *metav1.Condition {
	c := &metav1.Condition{Type: v1alpha1.ConditionReady, Message: message}
	switch phase {
	case v1alpha1.PhaseReady:
		c.Status, c.Reason = metav1.ConditionTrue, "Durable"
	case v1alpha1.PhaseFailed:
		c.Status, c.Reason = metav1.ConditionFalse, "CheckpointFailed"
	case v1alpha1.PhaseReleased:
		c.Status, c.Reason = metav1.ConditionFalse, "Released"
	default:
		return nil
	}
	return c
}

// insist writes a phase for an attempt: it goes on trying while the API server is out of reach, and through conflicts that left
// the phase as the attempt knows it. It fails with errLost when someone else changed the phase or removed the object.
func (r *Reconciler) insist(ctx context.Context, pc *v1alpha1.PodCheckpoint, phase v1alpha1.Phase, message string,
	mutate func(*v1alpha1.PodCheckpointStatus),
) error {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := r.write(ctx, pc, phase, message, mutate)
		if err == nil {
			return nil
		}
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			done, again := r.reread(ctx, pc, phase)
			if done || errors.Is(again, errLost) {
				return again
			}
		} else if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-r.Clock.After(pause):
		}
	}
}

// reread takes over the live object after a refused write. done is true when the live one already is in the wanted phase.
func (r *Reconciler) reread(ctx context.Context, pc *v1alpha1.PodCheckpoint, want v1alpha1.Phase) (done bool, err error) {
	live := &v1alpha1.PodCheckpoint{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(pc), live); apierrors.IsNotFound(err) {
		return false, errLost
	} else if err != nil {
		return false, err
	}
	before := phaseOf(pc)
	switch {
	case live.UID != pc.UID:
		return false, errLost
	case phaseOf(live) == want:
		*pc = *live
		return true, nil
	case phaseOf(live) != before:
		return false, errLost
	}
	*pc = *live
	return false, nil
}

func phaseOf(pc *v1alpha1.PodCheckpoint) v1alpha1.Phase {
	if pc.Status.Phase == "" {
		return v1alpha1.PhasePending
	}
	return pc.Status.Phase
}

// enteredAt is when pc last entered the phase; its creation for Pending and for a phase that left no trace.
func enteredAt(pc *v1alpha1.PodCheckpoint, phase v1alpha1.Phase) time.Time {
	for _, t := range slices.Backward(pc.Status.Timings) {
		if t.Phase == phase {
			return t.Time.Time
		}
	}
	return pc.CreationTimestamp.Time
}

func reached(pc *v1alpha1.PodCheckpoint, phase v1alpha1.Phase) bool {
	return slices.ContainsFunc(pc.Status.Timings, func(t v1alpha1.PhaseTiming) bool { return t.Phase == phase })
}

// shorten cuts a message to what the API takes, at a character.
func shorten(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	end := maxMessage - len("…")
	for end > 0 && message[end]&0xC0 == 0x80 {
		end--
	}
	return message[:end] + "…"
}
