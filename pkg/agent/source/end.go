// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// errYield ends an attempt without a fence when its pod is about to go, and has to be saved as it is now.
var errYield = errors.New("the pod is about to go, and another checkpoint of it is made")

// stillError ends an attempt whose pod must not stand still any longer. The pod goes on where it is: nothing is wrong with it, and
// another attempt would end the same.
type stillError struct {
	// span is for how long it stood still, why what allows no more.
	span time.Duration
	why  string
	// patience is for how long it can be tried to write that down before the pod is thawed; 0: failedWrite.
	patience time.Duration
}

func (e *stillError) Error() string {
	return fmt.Sprintf("the pod stood still for %s and its checkpoint was not durable; %s", e.span.Round(10*time.Millisecond), e.why)
}

// offError ends an attempt whose pod is to stay after all. It goes on where it is.
type offError struct{ why string }

func (e *offError) Error() string { return "called off: " + e.why }

// refuse writes that the checkpoint came to nothing, and then settles it.
func (r *Reconciler) refuse(ctx context.Context, pc *v1alpha1.PodCheckpoint, why error) (ctrl.Result, error) {
	if err := r.failed(ctx, pc, why); errors.Is(err, errLost) {
		return ctrl.Result{RequeueAfter: time.Millisecond}, nil
	} else if err != nil {
		return ctrl.Result{}, err
	}
	return r.settle(ctx, pc)
}

// failed writes that the checkpoint failed, or was released because the pod stood still for too long, and tells people. It gives up
// after failedWrite, or when the pod must be thawed.
func (r *Reconciler) failed(ctx context.Context, pc *v1alpha1.PodCheckpoint, why error) error {
	if phaseOf(pc).Final() {
		return nil
	}
	phase, patience := v1alpha1.PhaseFailed, failedWrite
	var mutate func(*v1alpha1.PodCheckpointStatus)
	var still *stillError
	if errors.As(why, &still) {
		phase, mutate = v1alpha1.PhaseReleased, forMaxFreeze
		if still.patience > 0 {
			patience = still.patience
		}
	}
	var off *offError
	if errors.As(why, &off) {
		phase, mutate = v1alpha1.PhaseReleased, forCalledOff
	}
	var refused *refusedError
	if errors.As(why, &refused) {
		mutate = refused.reason
	}
	write, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := r.Clock.AfterFunc(patience, func() { cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	if err := r.insist(write, pc, phase, why.Error(), mutate); err != nil {
		return err
	}
	if phase == v1alpha1.PhaseReleased {
		log.FromContext(ctx).Info("Checkpoint released before it was ready", "reason", why.Error())
		metrics.CountCheckpoint(pc.Spec.Reason, metrics.OutcomeReleased)
		if reached(pc, v1alpha1.PhaseFreezing) {
			metrics.ObserveFrozen(r.Clock.Since(enteredAt(pc, v1alpha1.PhaseFreezing)))
		}
		r.tellReleased(pc)
		return nil
	}
	if refused != nil {
		refused.count()
	}
	log.FromContext(ctx).Info("Checkpoint failed", "reason", why.Error())
	metrics.CountCheckpoint(pc.Spec.Reason, metrics.OutcomeFailed)
	r.tellFailed(pc, why)
	return nil
}

// forMaxFreeze tells programs that another attempt would end the same.
func forMaxFreeze(s *v1alpha1.PodCheckpointStatus) {
	if c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady); c != nil {
		c.Reason = v1alpha1.ReasonMaxFreeze
	}
}

// forCalledOff tells people and programs why.
func forCalledOff(s *v1alpha1.PodCheckpointStatus) {
	if c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady); c != nil {
		c.Reason = v1alpha1.ReasonCalledOff
	}
}

// yield ends the attempt that holds the pod when it has no fence and the other one has: what a schedule saves must not keep the pod
// from being saved for good. The other one waits for its turn meanwhile.
func (r *Reconciler) yield(to *v1alpha1.PodCheckpoint) {
	if !to.Spec.Fence {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, run := range r.running {
		if run.podUID == to.Spec.PodUID && run.unfenced {
			run.cancel(errYield)
		}
	}
}
