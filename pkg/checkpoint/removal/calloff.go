// SPDX-License-Identifier: Apache-2.0

package removal

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// stays is why an attempt for a node that ends is called off.
const stays = "its node is to stay after all"

// ForItsNode tells whether the attempt is made for nothing but the end of the pod's node, and nobody else has deleted the pod since.
func ForItsNode(pc *v1alpha1.PodCheckpoint) bool {
	return pc.Spec.Reason == v1alpha1.ReasonTermination && match.RemovalOf(pc) == pc.Spec.Removal
}

// Open tells whether an attempt can be called off: it keeps its pod frozen, or is about to, and no pod goes on from it.
func Open(pc *v1alpha1.PodCheckpoint) bool {
	return pc.Spec.Fence && !pc.Status.Phase.Final() && pc.Status.Phase != v1alpha1.PhaseClaimed && pc.Status.Claim == nil && match.CalledOff(pc) == ""
}

// CallOff tells the agent of the pod's node that the pod is to stay: the agent releases the checkpoint, and then lets the pod go on. It does nothing
// to an attempt that can't be called off. Another writer's conflict is no error: its change brings the object back.
func CallOff(ctx context.Context, c client.Client, pc *v1alpha1.PodCheckpoint, why string, now time.Time) error {
	if !Open(pc) {
		return nil
	}
	next := pc.DeepCopy()
	meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionCalledOff, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCalledOff, Message: why,
		LastTransitionTime: metav1.NewTime(now),
	})
	if err := c.Status().Update(ctx, next); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("calling PodCheckpoint %q off: %w", pc.Name, err)
	}
	return nil
}
