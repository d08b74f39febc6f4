// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// joinTries bounds the tries of a write that others come between.
const joinTries = 3

// askRemoval has the controllers end the pod of a checkpoint that another request began, when the pod is deleted meanwhile: who deletes a pod is
// told that it goes and need not come again, and neither may the one who began. One write for all deletions that join; it is no change of phase. It
// returns the checkpoint as it is then.
func (k *Keeper) askRemoval(ctx context.Context, c *Case, pc *v1alpha1.PodCheckpoint) *v1alpha1.PodCheckpoint {
	for range joinTries {
		if pc == nil || c.Removal != v1alpha1.RemovalDelete || match.RemovalOf(pc) == v1alpha1.RemovalDelete || pc.Status.Phase.Final() {
			return pc
		}
		next := pc.DeepCopy()
		meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionRemovalAsked, Status: metav1.ConditionTrue, Reason: "Deleted",
			Message:            "The pod was deleted while it was being saved: it goes as soon as that is done",
			LastTransitionTime: metav1.NewTime(k.Clock.Now()),
		})
		err := k.Writer.Status().Update(ctx, next)
		if err == nil {
			i := slices.IndexFunc(c.Checkpoints, func(p *v1alpha1.PodCheckpoint) bool { return p.Name == next.Name })
			if i >= 0 {
				c.Checkpoints[i] = next
			}
			return next
		}
		if !apierrors.IsConflict(err) {
			logf.FromContext(ctx).Error(err, "Leaving it to who deletes the pod to come again", "podCheckpoint", pc.Name)
			return pc
		}
		live := &v1alpha1.PodCheckpoint{}
		if err := k.Live.Get(ctx, client.ObjectKeyFromObject(pc), live); err != nil || live.UID != pc.UID {
			return pc
		}
		pc = live
	}
	return pc
}
