// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// maxPassings bounds what is remembered of checkpoints that were passed over. Past it, some may be told of twice.
const maxPassings = 4096

// passing is a controller whose pods do not start from a checkpoint.
type passing struct {
	checkpoint client.ObjectKey
	controller types.UID
}

// passings remembers which were told of. The zero value is ready for use, from many goroutines at once.
type passings struct {
	mu   sync.Mutex
	told map[passing]struct{}
}

// first tells whether this one was not told of before.
func (p *passings) first(key passing) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.told[key]; known {
		return false
	}
	if p.told == nil || len(p.told) >= maxPassings {
		p.told = map[passing]struct{}{}
	}
	p.told[key] = struct{}{}
	return true
}

// notePassedOver tells, on each checkpoint that waits for a pod of this kind and that this pod may not start from, which rule decided so:
// once for each checkpoint and controller.
func (h *PodCreate) notePassedOver(ctx context.Context, who claimant) {
	pod, owner := who.pod, match.OwnerOf(who.pod)
	if owner == nil {
		return
	}
	var list v1alpha1.PodCheckpointList
	if err := h.Cached.List(ctx, &list, client.InNamespace(pod.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		logf.FromContext(ctx).Error(err, "Not telling which checkpoints a pod passes over")
		return
	}
	for i := range list.Items {
		pc := &list.Items[i]
		rule, over := passesOver(who, owner, pc)
		if over && h.passings.first(passing{checkpoint: client.ObjectKeyFromObject(pc), controller: owner.UID}) {
			checkpointPassedOver(h.Events, owner, pc.DeepCopy(), rule)
		}
	}
}

// passesOver tells whether people could expect the pod to start from the checkpoint, which it may not, and the rule that decided.
func passesOver(who claimant, owner *v1alpha1.Owner, pc *v1alpha1.PodCheckpoint) (rule string, over bool) {
	saved := pc.Status.Owner
	if saved == nil || pc.Status.Phase != v1alpha1.PhaseReady || !pc.Spec.Fence && !match.SourceLost(pc) {
		return "", false
	}
	same := owner.UID == saved.UID && owner.Slot == saved.Slot
	if !same && !sameDeployment(who.pod, owner, saved) {
		return "", false
	}
	fits, rule := match.Replaces(who.pod, pc)
	if fits && !match.SameCreator(pc, who.user) {
		return fmt.Sprintf("its pod was made by %q, the new one by %q", pc.Status.Creator, who.user), true
	}
	return rule, !fits
}

// sameDeployment tells whether the pod's ReplicaSet and another one were made by the same Deployment, which gives each the name of its own
// with the hash of the template that the pods have as label.
func sameDeployment(pod *corev1.Pod, owner, other *v1alpha1.Owner) bool {
	const kind = "ReplicaSet"
	hash := pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	deployment, ours := strings.CutSuffix(owner.Name, "-"+hash)
	rest, others := strings.CutPrefix(other.Name, deployment+"-")
	return hash != "" && ours && others && owner.Kind == kind && other.Kind == kind && owner.UID != other.UID && !strings.Contains(rest, "-")
}
