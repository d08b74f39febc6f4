// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

const (
	// claimTimeout bounds how long a pod's CREATE waits for claims; the API server waits 10 s for the webhook.
	claimTimeout = 7 * time.Second

	// claimFresh is how long after a claim the same request may call the webhook again.
	claimFresh = 30 * time.Second
)

// claim takes a checkpoint for the pod, any one of those that fit. Nil when there is none. Replacements that are made at the same time
// try them in different orders, each by its request's UID: were all of them after the same one, all but one would lose it, each time.
//
// Which checkpoints there are comes from the cache, and an owner without any costs no call. A checkpoint is made a second and
// more before it is Ready and its pod goes, so that the cache has it when the replacement comes; should it not, the
// replacement starts cold. Everything else about it may be newer than the cache, so each is read anew.
func (h *PodCreate) claim(ctx context.Context, pod *corev1.Pod, made creation) (*v1alpha1.PodCheckpoint, string, error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	who := claimant{pod: pod, user: made.user.Username}
	h.notePassedOver(ctx, who)
	candidates, err := h.candidates(ctx, who, made.request)
	if err != nil {
		return nil, "", err
	}
	if len(candidates) == 0 {
		return nil, "", nil
	}
	if over, err := h.overQuota(ctx, pod); err != nil {
		logf.FromContext(ctx).Error(err, "Claiming without knowing whether the pod's quota allows it")
	} else if over {
		return nil, "", nil
	}
	owner, wait := match.OwnerOf(pod), patience{}
	switch may, err := h.entitled(ctx, owner, made.user, pod.Namespace); {
	case err != nil:
		return nil, "", err
	case !may:
		h.noteNotEntitled(who, owner, candidates)
		return nil, "", nil
	}
	who.id = h.newID()
	var failed error
	for i := range candidates {
		if ctx.Err() != nil {
			return nil, "", errors.Join(failed, fmt.Errorf("trying %d checkpoints: %w", len(candidates), ctx.Err()))
		}
		pc, err := h.claimCandidate(ctx, who, &candidates[i], &wait)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if pc != nil {
			return pc, who.id, nil
		}
	}
	return nil, "", failed
}

// claimCandidate tries one checkpoint, and tells people when it is claimed.
func (h *PodCreate) claimCandidate(ctx context.Context, who claimant, candidate *v1alpha1.PodCheckpoint, wait *patience) (
	*v1alpha1.PodCheckpoint, error,
) {
	key := client.ObjectKeyFromObject(candidate)
	if !candidate.Spec.Fence {
		pc, err := h.claimStandby(ctx, who, key, wait)
		if pc != nil {
			standbyClaimed(h.Events, who.pod, pc, h.Clock.Now())
		}
		return pc, err
	}
	pc, err := h.claimOne(ctx, who, key)
	if pc != nil {
		checkpointClaimed(h.Events, who.pod, pc)
	}
	return pc, err
}

// candidates are the checkpoints to try, in that order: first those that the cache has as Ready, then those that may be by now, and last
// those whose pods went on after them and may be lost since. They are the cache's own, and must not be changed.
func (h *PodCreate) candidates(ctx context.Context, who claimant, request string) ([]v1alpha1.PodCheckpoint, error) {
	pod, owner := who.pod, match.OwnerOf(who.pod)
	if owner == nil {
		return nil, nil
	}
	var list v1alpha1.PodCheckpointList
	err := h.Cached.List(ctx, &list, client.InNamespace(pod.Namespace),
		client.MatchingLabels{v1alpha1.LabelOwnerUID: string(owner.UID)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing the PodCheckpoints of %s %q: %w", owner.Kind, owner.Name, err)
	}
	open := slices.DeleteFunc(list.Items, func(pc v1alpha1.PodCheckpoint) bool {
		return !mayFit(pod, pc) || !match.SameCreator(&pc, who.user) || !pc.Spec.Fence && !h.mayBeLost(ctx, &pc)
	})
	shuffle(open, request)
	slices.SortStableFunc(open, func(a, b v1alpha1.PodCheckpoint) int { return rank(&a) - rank(&b) })
	return open, nil
}

// mayFit tells whether what the cache has of a checkpoint leaves it open that the pod may start from it. One that is claimed or over is
// for nobody else; whose it is, and of which slot and template, is written when it is begun and stays.
func mayFit(pod *corev1.Pod, pc v1alpha1.PodCheckpoint) bool {
	if pc.Status.Phase == v1alpha1.PhaseClaimed || pc.Status.Phase.Final() {
		return false
	}
	if !pc.Spec.Fence && pc.Status.Phase != v1alpha1.PhaseReady {
		return false // nobody makes it Ready once its node is gone
	}
	if pc.Status.Owner == nil {
		return true
	}
	pc.Status.Phase = v1alpha1.PhaseReady
	fits, _ := match.Fits(pod, &pc)
	return fits
}

// shuffle puts the checkpoints into an order that depends on the request's UID only.
func shuffle(pcs []v1alpha1.PodCheckpoint, request string) {
	slices.SortFunc(pcs, func(a, b v1alpha1.PodCheckpoint) int { return cmp.Compare(a.Name, b.Name) })
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(request))
	order := rand.New(rand.NewPCG(seed.Sum64(), 0))
	order.Shuffle(len(pcs), func(i, j int) { pcs[i], pcs[j] = pcs[j], pcs[i] })
}

// rank puts those first that the cache has as Ready already, and those last that may need the leader's word.
func rank(pc *v1alpha1.PodCheckpoint) int {
	switch {
	case pc.Spec.Fence && pc.Status.Phase == v1alpha1.PhaseReady:
		return 0
	case pc.Spec.Fence:
		return 1
	case match.SourceLost(pc):
		return 2
	}
	return 3
}

// claimOne tries one checkpoint, twice when another writer comes between. Nil when it is not for this pod.
func (h *PodCreate) claimOne(ctx context.Context, who claimant, key client.ObjectKey) (
	*v1alpha1.PodCheckpoint, error,
) {
	for range 2 {
		var pc v1alpha1.PodCheckpoint
		if err := h.Live.Get(ctx, key, &pc); err != nil {
			return nil, client.IgnoreNotFound(err)
		}
		if fits, _ := match.Replaces(who.pod, &pc); !fits || !h.takes(who, &pc) {
			return nil, nil
		}
		gone, err := h.sourceGone(ctx, &pc)
		if err != nil || !gone {
			return nil, err
		}
		h.enterClaim(who, &pc)
		err = h.Writer.Status().Update(ctx, &pc)
		if err == nil {
			return &pc, nil
		}
		if !apierrors.IsConflict(err) {
			return nil, fmt.Errorf("claiming PodCheckpoint %q: %w", key.Name, err)
		}
	}
	return nil, nil
}

func (h *PodCreate) enterClaim(who claimant, pc *v1alpha1.PodCheckpoint) {
	now := h.Clock.Now()
	pc.Status.Enter(v1alpha1.PhaseClaimed, "The pod's replacement has claimed the checkpoint; waiting for it to run", now)
	pc.Status.Claim = &v1alpha1.Claim{ID: who.id, PodName: who.pod.Name, User: who.user, Time: metav1.NewMicroTime(now)}
}

// sourceGone tells whether the checkpointed pod is gone or on its way: only then may another process go on from its state.
func (h *PodCreate) sourceGone(ctx context.Context, pc *v1alpha1.PodCheckpoint) (bool, error) {
	var source corev1.Pod
	err := h.Live.Get(ctx, client.ObjectKey{Namespace: pc.Namespace, Name: pc.Spec.PodName}, &source)
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("reading the checkpointed pod %q: %w", pc.Spec.PodName, err)
	}
	return source.UID != pc.Spec.PodUID || source.DeletionTimestamp != nil, nil
}

// ownClaim is the claim that the pod carries if an earlier call of the same request made it: the API server calls again when
// another webhook has changed the pod. A claim that a user wrote names no checkpoint that is claimed just now and not yet bound, or one that
// another user claimed: whoever may read pods could copy the ID from one that was made a moment ago.
func (h *PodCreate) ownClaim(ctx context.Context, pod *corev1.Pod, user string) (*v1alpha1.PodCheckpoint, string, error) {
	name, id := pod.Annotations[v1alpha1.AnnotationRestoreFrom], pod.Annotations[v1alpha1.AnnotationClaim]
	if name == "" || id == "" {
		return nil, "", nil
	}
	var pc v1alpha1.PodCheckpoint
	if err := h.Live.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: name}, &pc); err != nil {
		return nil, "", client.IgnoreNotFound(err)
	}
	claim, owner := pc.Status.Claim, match.OwnerOf(pod)
	ours := pc.Status.Phase == v1alpha1.PhaseClaimed && claim != nil && claim.ID == id && claim.PodUID == "" &&
		claim.PodName == pod.Name && claim.User == user && h.Clock.Since(claim.Time.Time) < claimFresh &&
		owner != nil && pc.Status.Owner != nil && *owner == *pc.Status.Owner
	if !ours {
		return nil, "", nil
	}
	return &pc, id, nil
}
