// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// rivals are the checkpoints by which other pods of the pod's owner are frozen, or about to be, and may be evicted any moment. They may be the
// cache's own, and must not be changed.
func rivals(ctx context.Context, r client.Reader, pod *corev1.Pod, now time.Time) ([]v1alpha1.PodCheckpoint, error) {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return nil, nil
	}
	var list v1alpha1.PodCheckpointList
	err := r.List(ctx, &list, client.InNamespace(pod.Namespace), client.MatchingLabels{v1alpha1.LabelOwnerUID: string(owner.UID)},
		client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing the PodCheckpoints of %s %q: %w", owner.Kind, owner.Name, err)
	}
	var found []v1alpha1.PodCheckpoint
	for i := range list.Items {
		if pc := &list.Items[i]; pc.Spec.PodUID != pod.UID && match.MayBeFrozen(pc, now) {
			found = append(found, *pc)
		}
	}
	return found, nil
}

// yield takes the checkpoint back that was made a moment ago, when other replicas made some for as many pods as the budget allows, and
// they came first. Nil when it stays.
func (k *Keeper) yield(ctx context.Context, c *Case, made *v1alpha1.PodCheckpoint) (*Decision, error) {
	others, err := rivals(ctx, k.Live, c.Pod, k.Clock.Now())
	if err != nil {
		return nil, err
	}
	c.Rivals = 0
	for i := range others {
		if before(&others[i], made) {
			c.Rivals++
		}
	}
	d, crowded := standBack(*c)
	if !crowded {
		return nil, nil
	}
	uid := made.UID
	if err := k.Writer.Delete(ctx, made, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("taking PodCheckpoint %q back: %w", made.Name, err)
	}
	return &d, nil
}

// before tells whether a checkpoint is further on its way than the one just made.
func before(pc, made *v1alpha1.PodCheckpoint) bool {
	if pc.Status.Phase != "" {
		return true
	}
	a, errA := strconv.ParseUint(pc.ResourceVersion, 10, 64)
	b, errB := strconv.ParseUint(made.ResourceVersion, 10, 64)
	if errA != nil || errB != nil || a == b {
		return pc.Name < made.Name
	}
	return a < b
}
