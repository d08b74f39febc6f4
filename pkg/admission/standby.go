// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/wish"
)

// wordTimeout is how long a pod's CREATE waits for the leader to write that the source of a checkpoint without a fence is lost. It saw the pod
// go; this replica can't know.
const wordTimeout = 3 * time.Second

// mayBeLost tells by the cache whether the source of a checkpoint without a fence may have gone with its node: the leader has written so, or
// something is wrong with the node. That shows in the cache long before the pod is given up, so that pods of healthy nodes cost no call.
func (h *PodCreate) mayBeLost(ctx context.Context, pc *v1alpha1.PodCheckpoint) bool {
	if match.SourceLost(pc) {
		return true
	}
	node := &corev1.Node{}
	err := h.Cached.Get(ctx, client.ObjectKey{Name: pc.Spec.NodeName}, node)
	switch {
	case apierrors.IsNotFound(err):
		return match.Suspect(nil)
	case err != nil:
		logf.FromContext(ctx).Error(err, "Passing over a checkpoint without knowing how its node is", "podCheckpoint", pc.Name)
		return false
	}
	return match.Suspect(node)
}

// patience is how long a request waits for the leader's word, for all checkpoints together. The zero value has not begun.
type patience struct{ until time.Time }

// claimStandby tries one checkpoint without a fence. Nil when it is not for this pod, or nobody can tell in time.
func (h *PodCreate) claimStandby(ctx context.Context, who claimant, key client.ObjectKey, p *patience) (
	*v1alpha1.PodCheckpoint, error,
) {
	changed, stop := h.Changes.Watch(key)
	defer stop()
	for {
		pc, open, err := h.tryStandby(ctx, who, key)
		if err != nil || pc != nil || !open {
			return pc, err
		}
		now := h.Clock.Now()
		if p.until.IsZero() {
			p.until = now.Add(wordTimeout)
		}
		if !now.Before(p.until) {
			return nil, nil
		}
		timer := h.Clock.NewTimer(p.until.Sub(now))
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil, nil
		}
	}
}

// tryStandby claims the checkpoint if it is certain that its source runs nowhere. It tells whether that is still open.
func (h *PodCreate) tryStandby(ctx context.Context, who claimant, key client.ObjectKey) (
	claimed *v1alpha1.PodCheckpoint, open bool, err error,
) {
	pc := &v1alpha1.PodCheckpoint{}
	if err := h.Live.Get(ctx, key, pc); err != nil {
		return nil, false, client.IgnoreNotFound(err)
	}
	if fits, _ := match.Fits(who.pod, pc); !fits || !h.takes(who, pc) {
		return nil, false, nil
	}
	if !match.SourceLost(pc) {
		why, open, err := h.lost(ctx, pc)
		if err != nil || why == "" {
			return nil, open, err
		}
		now := metav1.NewTime(h.Clock.Now())
		meta.SetStatusCondition(&pc.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionSourceLost, Status: metav1.ConditionTrue, Reason: "SourceLost",
			Message: fmt.Sprintf("Pod %q is lost: %s", pc.Spec.PodName, why), LastTransitionTime: now,
		})
	}
	h.enterClaim(who, pc)
	err = h.Writer.Status().Update(ctx, pc)
	switch {
	case err == nil:
		return pc, false, nil
	case apierrors.IsConflict(err):
		return nil, true, nil // whoever came between wakes this request
	}
	return nil, false, fmt.Errorf("claiming PodCheckpoint %q: %w", key.Name, err)
}

// lost says how it is certain that the checkpoint's source went with its node and that no other checkpoint or pod goes on from it; empty when
// it is not. While the pod is there, it and its node tell. When it is gone, the leader knows, or nobody: that is open as long as the node is
// gone as well, or out of service. So it is where another checkpoint has to be ended before, or another pod may stand in already.
func (h *PodCreate) lost(ctx context.Context, pc *v1alpha1.PodCheckpoint) (why string, open bool, err error) {
	source, err := h.sourceOf(ctx, pc)
	if err != nil {
		return "", false, err
	}
	node, err := h.readNode(ctx, pc.Spec.NodeName)
	if err != nil {
		return "", false, err
	}
	if source == nil {
		return "", node == nil || match.OutOfService(node), nil
	}
	certain, why := match.Lost(source, node)
	if !certain || match.Restarted(source, pc) != "" {
		return "", false, nil
	}
	var others v1alpha1.PodCheckpointList
	// By the label without which none can be claimed.
	err = h.Live.List(ctx, &others, client.InNamespace(pc.Namespace),
		client.MatchingLabels{v1alpha1.LabelOwnerUID: pc.Labels[v1alpha1.LabelOwnerUID]})
	if err != nil {
		return "", false, fmt.Errorf("listing the PodCheckpoints of pod %q: %w", pc.Spec.PodName, err)
	}
	switch bearing, _ := match.Weightiest(pc, others.Items); bearing {
	case match.BearingNone:
	case match.BearingUnderWay:
		return "", true, nil // the leader ends that one first
	default:
		return "", false, nil
	}
	var peers corev1.PodList
	if err := h.Cached.List(ctx, &peers, client.InNamespace(pc.Namespace)); err != nil {
		return "", false, fmt.Errorf("listing the pods of namespace %q: %w", pc.Namespace, err)
	}
	if match.StandIn(peers.Items, source) != nil {
		return "", true, nil // the leader finds out whether it does
	}
	return why, false, nil
}

// sourceOf is the checkpointed pod, nil when it exists no more.
func (h *PodCreate) sourceOf(ctx context.Context, pc *v1alpha1.PodCheckpoint) (*corev1.Pod, error) {
	source := &corev1.Pod{}
	err := h.Live.Get(ctx, client.ObjectKey{Namespace: pc.Namespace, Name: pc.Spec.PodName}, source)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading the checkpointed pod %q: %w", pc.Spec.PodName, err)
	case source.UID != pc.Spec.PodUID:
		return nil, nil
	}
	return source, nil
}

// standbyClaimed tells what a claim of a checkpoint without a fence costs.
func standbyClaimed(r Recorder, pod *corev1.Pod, pc *v1alpha1.PodCheckpoint, now time.Time) {
	const note = "Pod %s was lost with its node; it is replaced by one that starts from a checkpoint that is %s old: " +
		"what happened since is lost; waiting for it to be restored"
	age := match.Age(pc, now)
	r.Eventf(pc, nil, corev1.EventTypeWarning, "CheckpointClaimed", "Claim", note, pc.Spec.PodName, age)
	if owner := ownerReference(pod); owner != nil {
		r.Eventf(owner, pc, corev1.EventTypeWarning, "CheckpointClaimed", "Claim", note, pc.Spec.PodName, age)
	}
}

// scheduleWarnings tell the pod's author of a schedule that can't be kept.
func scheduleWarnings(pod *corev1.Pod) []string {
	if _, wished := wish.Interval(pod); !wished {
		return nil
	}
	volume := match.Outliving(pod)
	if volume == "" {
		return nil
	}
	return []string{fmt.Sprintf("annotation %q is not heeded: the volume %q outlives the pod and would be newer than a checkpoint from before the node died",
		v1alpha1.AnnotationInterval, volume)}
}
