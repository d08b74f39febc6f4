// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const (
	// lateArchive is for how long archives are looked for after an attempt that came to nothing: where the kubelet dies or gives up in the middle of
	// a dump, the runtime may finish it all the same, after everything was cleaned.
	lateArchive = 2 * time.Minute
	// firstLook and lastLook bound the pauses between the looks.
	firstLook = time.Second
	lastLook  = 15 * time.Second
)

// mayComeLate tells whether an attempt that is over may still leave archives.
func mayComeLate(pc *v1alpha1.PodCheckpoint) bool {
	return reached(pc, v1alpha1.PhaseDumping) && !reached(pc, v1alpha1.PhaseReady)
}

// cleanLate removes archives of an attempt that is over, and returns after how long to look again; 0: never. It costs no call of the API server.
func (r *Reconciler) cleanLate(ctx context.Context, pc *v1alpha1.PodCheckpoint) (again time.Duration) {
	if !mayComeLate(pc) {
		return 0
	}
	ended := enteredAt(pc, pc.Status.Phase)
	past := r.Clock.Since(ended)
	if _, held := r.Ledger.Holder(pc.Spec.PodUID); held {
		// By another attempt, whose archives look the same within one second.
		return lastLook
	}
	r.cleanSpan(ctx, fence.Entry{Checkpoint: client.ObjectKeyFromObject(pc), Pod: pc.Spec.PodName, Since: enteredAt(pc, v1alpha1.PhaseFreezing)}, ended)
	if past >= lateArchive {
		return 0
	}
	return max(firstLook, min(past, lastLook))
}
