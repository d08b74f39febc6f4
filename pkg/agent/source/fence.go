// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// fence keeps the source of a Ready checkpoint frozen while its pod may still be deleted. When nobody deletes the pod in time,
// or the pod did not stay frozen, the checkpoint is released; only when that is written is the pod thawed.
func (r *Reconciler) fence(ctx context.Context, pc *v1alpha1.PodCheckpoint) (ctrl.Result, error) {
	key := client.ObjectKeyFromObject(pc)
	entry, held := r.Ledger.Get(key)
	if !pc.Spec.Fence {
		return r.letGo(ctx, pc, entry)
	}
	frozen, gone := false, false
	if held {
		var err1, err2 error
		frozen, err1 = fence.AllFrozen(ctx, r.Fence, entry.Containers)
		gone, err2 = fence.AllGone(ctx, r.Fence, entry.Containers)
		if err := errors.Join(err1, err2); err != nil {
			return ctrl.Result{}, err
		}
	}
	left, why, mutate := r.left(pc, entry)
	if patience := min(left, r.patience()); frozen && patience > 0 {
		return ctrl.Result{RequeueAfter: min(patience, watchFrozen)}, nil
	}
	alive, err := r.alive(ctx, pc.Namespace, pc.Spec.PodName, pc.Spec.PodUID)
	switch {
	case err != nil:
		return ctrl.Result{}, err
	case alive == nil && (gone || !held):
		return ctrl.Result{}, r.Ledger.Drop(key)
	case alive == nil:
		return ctrl.Result{RequeueAfter: watchFrozen}, nil
	}
	switch {
	case left > 0 && !frozen:
		why = "a container of the pod did not stay frozen"
	case left > 0:
		why = errStopping.Error()
	}
	if err := r.write(ctx, pc, v1alpha1.PhaseReleased, why, mutate); apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: time.Millisecond}, nil
	} else if err != nil {
		return ctrl.Result{}, err
	}
	log.FromContext(ctx).Info("Checkpoint released", "reason", why)
	metrics.CountCheckpoint(pc.Spec.Reason, metrics.OutcomeReleased)
	r.tellReleased(pc)
	return r.settle(ctx, pc)
}

// left is how long the fence of a Ready checkpoint still holds: as long as it was asked for, but not until the kubelet restarts
// a container, nor once it is called off. It returns what to say, and to write, past that, too.
func (r *Reconciler) left(pc *v1alpha1.PodCheckpoint, entry fence.Entry) (_ time.Duration, why string, mutate func(*v1alpha1.PodCheckpointStatus)) {
	if why := match.CalledOff(pc); why != "" {
		return 0, (&offError{why}).Error(), forCalledOff
	}
	span := time.Duration(pc.Spec.FenceSeconds) * time.Second
	if span <= 0 {
		span = v1alpha1.DefaultFence
	}
	left := span - r.Clock.Since(enteredAt(pc, v1alpha1.PhaseReady))
	if !entry.Until.IsZero() {
		if probes := entry.Until.Sub(r.Clock.Now()); probes < left {
			return probes, fmt.Sprintf("nobody deleted the pod before %s would have restarted it", entry.Probe), nil
		}
	}
	return left, fmt.Sprintf("nobody deleted the pod within %s", span), nil
}

// letGo thaws the source of a Ready checkpoint that was made without a fence, unless its attempt has done so.
func (r *Reconciler) letGo(ctx context.Context, pc *v1alpha1.PodCheckpoint, entry fence.Entry) (ctrl.Result, error) {
	if !entry.Thawed {
		if err := r.thaw(ctx, entry, metrics.ThawSaved); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, r.Ledger.Drop(client.ObjectKeyFromObject(pc))
}

// settle does what follows from a phase that the agent does not change any more. One that was claimed stays frozen until its processes
// are gone: they live on elsewhere. Of one that can't be claimed any more, the pod is thawed and what was made is removed.
func (r *Reconciler) settle(ctx context.Context, pc *v1alpha1.PodCheckpoint) (ctrl.Result, error) {
	key := client.ObjectKeyFromObject(pc)
	entry, held := r.Ledger.Get(key)
	if pc.Status.Claim != nil || phaseOf(pc) == v1alpha1.PhaseClaimed {
		return r.dropWhenGone(ctx, entry, held)
	}
	if !held {
		var err error
		if entry, err = r.rebuild(ctx, pc); err != nil {
			return ctrl.Result{}, err
		}
	}
	cause := metrics.ThawReleased
	if phaseOf(pc) == v1alpha1.PhaseFailed {
		cause = metrics.ThawFailed
	}
	if !entry.Thawed {
		if err := r.thaw(ctx, entry, cause); err != nil {
			return ctrl.Result{}, err
		}
	}
	if held && r.putAside(leftover{pc: pc.DeepCopy(), entry: entry}) {
		return ctrl.Result{}, nil
	}
	if err := r.discard(ctx, leftover{pc: pc, entry: entry}); err != nil {
		return ctrl.Result{}, err
	}
	if mayComeLate(pc) {
		return ctrl.Result{RequeueAfter: firstLook}, nil
	}
	return ctrl.Result{}, nil
}

// leftover is what was made of a pod that goes on, or went without it.
type leftover struct {
	pc    *v1alpha1.PodCheckpoint
	entry fence.Entry
}

// discard removes it. Where there is no time for that, the ledger keeps the entry, for the agent's next life to do it.
func (r *Reconciler) discard(ctx context.Context, l leftover) error {
	r.clean(ctx, l.pc, l.entry)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("removing what checkpoint %q left: %w", l.entry.Checkpoint, err)
	}
	r.forget(l.entry.Checkpoint)
	return r.Ledger.Drop(l.entry.Checkpoint)
}

// orphan deals with what a PodCheckpoint froze that is gone. While its pod was never deleted, nobody can have claimed it: the pod is
// thawed, and what was made of it is removed. Else it may have been claimed: the pod stays frozen until the kubelet has killed it, and
// its images stay. So do its archives, if there are any, for the ledger knows none by their paths, and a later pod of that name may be saved.
func (r *Reconciler) orphan(ctx context.Context, entry fence.Entry, held bool) (ctrl.Result, error) {
	if !held {
		return ctrl.Result{}, nil
	}
	alive, err := r.alive(ctx, entry.Checkpoint.Namespace, entry.Pod, entry.PodUID)
	if err != nil {
		return ctrl.Result{}, err
	}
	if alive == nil {
		return r.dropWhenGone(ctx, entry, held)
	}
	if !entry.Thawed {
		log.FromContext(ctx).Info("Thawing a pod whose checkpoint is gone", "pod", entry.Pod)
		if err := r.thaw(ctx, entry, metrics.ThawOrphaned); err != nil {
			return ctrl.Result{}, err
		}
	}
	r.cleanArchives(ctx, entry)
	names := make([]string, 0, len(entry.Containers))
	for _, c := range entry.Containers {
		names = append(names, c.Name)
	}
	r.withdraw(ctx, entry, names)
	r.forget(entry.Checkpoint)
	return ctrl.Result{}, r.Ledger.Drop(entry.Checkpoint)
}

func (r *Reconciler) dropWhenGone(ctx context.Context, entry fence.Entry, held bool) (ctrl.Result, error) {
	if !held {
		return ctrl.Result{}, nil
	}
	gone, err := fence.AllGone(ctx, r.Fence, entry.Containers)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !gone {
		return ctrl.Result{RequeueAfter: watchGone}, nil
	}
	r.forget(entry.Checkpoint)
	return ctrl.Result{}, r.Ledger.Drop(entry.Checkpoint)
}

// thaw lets the containers of a pod go on, unless its memory does so elsewhere. It does not stop halfway when the agent ends.
func (r *Reconciler) thaw(ctx context.Context, entry fence.Entry, cause metrics.ThawCause) error {
	if len(entry.Containers) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if r.goesOnElsewhere(entry.PodUID) {
		return nil
	}
	if err := fence.ThawAll(ctx, r.Fence, entry.Containers); err != nil {
		metrics.CountAgentError(metrics.StepThaw)
		return err
	}
	metrics.CountThaw(cause)
	if r.goesOnElsewhere(entry.PodUID) {
		// It was learnt at this very moment.
		return fence.FreezeAll(ctx, r.Fence, entry.Containers)
	}
	return nil
}

// alive returns the very pod when it exists and was not deleted; nil otherwise.
func (r *Reconciler) alive(ctx context.Context, namespace, name string, uid types.UID) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	err := r.Live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, pod)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading pod %q: %w", name, err)
	case pod.UID != uid || pod.DeletionTimestamp != nil:
		return nil, nil
	}
	return pod, nil
}

// rebuild finds out from the pod what a checkpoint holds that the ledger does not name. Only a checkpoint that came as far as
// freezing holds anything.
func (r *Reconciler) rebuild(ctx context.Context, pc *v1alpha1.PodCheckpoint) (fence.Entry, error) {
	entry := fence.Entry{Checkpoint: client.ObjectKeyFromObject(pc), CheckpointUID: pc.UID, Pod: pc.Spec.PodName, PodUID: pc.Spec.PodUID}
	if !reached(pc, v1alpha1.PhaseFreezing) {
		return entry, nil
	}
	pod, err := r.alive(ctx, pc.Namespace, pc.Spec.PodName, pc.Spec.PodUID)
	if err != nil || pod == nil {
		return entry, err
	}
	if _, other := r.Ledger.Holder(pod.UID); other {
		return entry, nil
	}
	entry.Containers = holding(pod, pc)
	entry.Since = enteredAt(pc, v1alpha1.PhaseFreezing)
	return entry, nil
}

// clean removes what a checkpoint left that is of no use. It can't be but best effort: the registry may be away.
func (r *Reconciler) clean(ctx context.Context, pc *v1alpha1.PodCheckpoint, entry fence.Entry) {
	if reached(pc, v1alpha1.PhaseDumping) {
		r.cleanArchives(ctx, entry)
	}
	if !reached(pc, v1alpha1.PhaseExporting) {
		return
	}
	names := make([]string, 0, len(pc.Status.Containers))
	for _, c := range pc.Status.Containers {
		names = append(names, c.Name)
	}
	r.withdraw(ctx, entry, names)
}

func (r *Reconciler) cleanArchives(ctx context.Context, entry fence.Entry) {
	if !entry.Since.IsZero() {
		r.cleanSpan(ctx, entry, r.Clock.Now())
	}
}

// cleanSpan removes the archives that were begun from the entry's beginning to that time.
func (r *Reconciler) cleanSpan(ctx context.Context, entry fence.Entry, to time.Time) {
	if err := r.Exporter.Clean(ctx, entry.Checkpoint.Namespace, entry.Pod, entry.Since, to); err != nil {
		metrics.CountAgentError(metrics.StepClean)
		log.FromContext(ctx).Error(err, "Removing archives")
	}
}

func (r *Reconciler) withdraw(ctx context.Context, entry fence.Entry, containers []string) {
	if err := r.Exporter.Withdraw(ctx, entry.Checkpoint, containers); err != nil {
		log.FromContext(ctx).V(1).Info("Could not remove images from the registry", "error", err.Error())
	}
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.causes, key)
}
