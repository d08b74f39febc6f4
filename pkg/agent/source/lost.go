// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"slices"

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

// Processes knows what runs on the node, whatever the API server says.
type Processes interface {
	// Running lists the running containers of the pod, frozen ones too.
	Running(ctx context.Context, pod types.UID) ([]fence.Container, error)
}

// takenForLost tells whether the source of a checkpoint that was made without a fence was taken to have gone with its node, or another pod goes
// on from the checkpoint already. Both can be wrong about the machine: somebody deleted the node's object, or marked it as out of
// service, while it ran.
func takenForLost(pc *v1alpha1.PodCheckpoint) bool {
	return !pc.Spec.Fence && (pc.Status.Claim != nil || phaseOf(pc) == v1alpha1.PhaseClaimed || match.SourceLost(pc))
}

// halt freezes what still runs here of a pod that was taken for lost: its memory goes on elsewhere. Nothing thaws it again; the kubelet ends it,
// for the API server has no such pod any more, or is about to lose it. Until then the agent looks, on the node only, whether it stands still.
func (r *Reconciler) halt(ctx context.Context, pc *v1alpha1.PodCheckpoint) (ctrl.Result, error) {
	if r.Processes == nil {
		return ctrl.Result{}, nil
	}
	containers, err := r.Processes.Running(ctx, pc.Spec.PodUID)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("looking for what is left of pod %q: %w", pc.Spec.PodName, err)
	}
	r.noteHalted(pc.Spec.PodUID, len(containers) > 0)
	if len(containers) == 0 {
		key := client.ObjectKeyFromObject(pc)
		r.forget(key)
		return ctrl.Result{}, r.Ledger.Drop(key)
	}
	frozen, err := fence.AllFrozen(ctx, r.Fence, containers)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !frozen {
		if err := fence.FreezeAll(ctx, r.Fence, containers); err != nil && !errors.Is(err, fence.ErrGone) {
			metrics.CountAgentError(metrics.StepFreeze)
			return ctrl.Result{}, err
		}
		log.FromContext(ctx).Info("Froze a pod that was taken for lost and still ran here", "pod", pc.Spec.PodName, "podUID", pc.Spec.PodUID)
		metrics.CountHalt()
		r.tellHalted(pc, len(containers))
	}
	return ctrl.Result{RequeueAfter: watchFrozen}, nil
}

// goesOnElsewhere tells whether the pod was taken for lost, as far as this agent has seen: then no other checkpoint may have it thawed.
func (r *Reconciler) goesOnElsewhere(pod types.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, halted := r.halted[pod]
	return halted
}

func (r *Reconciler) noteHalted(pod types.UID, is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.halted == nil {
		r.halted = map[types.UID]struct{}{}
	}
	delete(r.halted, pod)
	if is {
		r.halted[pod] = struct{}{}
	}
}

// haltAll freezes, when the agent ends because its node's object is gone, the pods that may be taken for lost in a moment: Kubernetes deletes
// the agent's own pod in the same breath as theirs, and nobody would be here to do it then.
func (r *Reconciler) haltAll(ctx context.Context) {
	var all v1alpha1.PodCheckpointList
	if err := r.Client.List(ctx, &all); err != nil {
		log.FromContext(ctx).Error(err, "Ending without knowing which pods are saved on a schedule")
		return
	}
	all.Items = slices.DeleteFunc(all.Items, func(pc v1alpha1.PodCheckpoint) bool {
		return pc.Spec.Fence || phaseOf(&pc) != v1alpha1.PhaseReady && phaseOf(&pc) != v1alpha1.PhaseClaimed
	})
	// All are of the agent's own node.
	if len(all.Items) == 0 || !r.nodeGone(ctx, all.Items[0].Spec.NodeName) {
		return
	}
	for i := range all.Items {
		pc := &all.Items[i]
		if _, err := r.halt(ctx, pc); err != nil {
			log.FromContext(ctx).Error(err, "Freezing a pod whose node is gone", "pod", pc.Spec.PodName)
		}
	}
}

func (r *Reconciler) nodeGone(ctx context.Context, name string) bool {
	err := r.Live.Get(ctx, client.ObjectKey{Name: name}, &corev1.Node{})
	if client.IgnoreNotFound(err) != nil {
		log.FromContext(ctx).Error(err, "Ending without knowing whether the node is still there", "node", name)
	}
	return apierrors.IsNotFound(err)
}
