// SPDX-License-Identifier: Apache-2.0

package expiry

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// lookAfter is when it is looked whether a checkpoint's owner still lacks a pod, from when its pod was seen to be gone. The first is late
// enough for the owner's controller to have made the pod that takes the checkpoint.
var lookAfter = []time.Duration{15 * time.Second, time.Minute, 5 * time.Minute}

// looks remembers, for each checkpoint that waits for a pod, since when its own pod is gone, and how often it was looked. A leader that is new
// begins anew. The zero value is ready for use, from many goroutines at once.
type looks struct {
	mu      sync.Mutex
	waiting map[types.NamespacedName]*look
}

type look struct {
	uid   types.UID
	since time.Time
	done  int
}

// due tells whether to look now, and else when: 0 is not any more. What is due counts as done.
func (l *looks) due(pc *v1alpha1.PodCheckpoint, now time.Time) (is bool, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := client.ObjectKeyFromObject(pc)
	one, ok := l.waiting[key]
	if !ok || one.uid != pc.UID {
		if l.waiting == nil {
			l.waiting = map[types.NamespacedName]*look{}
		}
		one = &look{uid: pc.UID, since: now}
		l.waiting[key] = one
	}
	if one.done >= len(lookAfter) {
		return false, 0
	}
	if rest := one.since.Add(lookAfter[one.done]).Sub(now); rest > 0 {
		return false, rest
	}
	one.done++
	if one.done < len(lookAfter) {
		after = max(one.since.Add(lookAfter[one.done]).Sub(now), time.Millisecond)
	}
	return true, after
}

func (l *looks) forget(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, key)
}

// notWanted looks, when it is time, whether a pod is still going to come for the checkpoint, and gives the rule by which none is. After is
// when to come again.
func (r *Reconciler) notWanted(ctx context.Context, pc *v1alpha1.PodCheckpoint) (rule string, after time.Duration, err error) {
	owner := NewOwner(pc.Status.Owner)
	if owner == nil {
		return "", 0, nil
	}
	pod := &corev1.Pod{}
	err = r.Client.Get(ctx, client.ObjectKey{Namespace: pc.Namespace, Name: pc.Spec.PodName}, pod)
	switch {
	case err == nil && pod.UID == pc.Spec.PodUID && pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning:
		return "", 0, nil // its end brings the checkpoint back here
	case client.IgnoreNotFound(err) != nil:
		return "", 0, fmt.Errorf("reading pod %q: %w", pc.Spec.PodName, err)
	}
	is, after := r.looks.due(pc, r.Clock.Now())
	if !is {
		return "", after, nil
	}
	err = r.Live.Get(ctx, client.ObjectKey{Namespace: pc.Namespace, Name: pc.Status.Owner.Name}, owner)
	if apierrors.IsNotFound(err) {
		return NotWanted(pc, nil, nil), after, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("reading %s %q: %w", pc.Status.Owner.Kind, pc.Status.Owner.Name, err)
	}
	var pods corev1.PodList
	if err := r.Client.List(ctx, &pods, client.InNamespace(pc.Namespace)); err != nil {
		return "", 0, fmt.Errorf("listing the pods of namespace %q: %w", pc.Namespace, err)
	}
	return NotWanted(pc, owner, pods.Items), after, nil
}

// sooner is the earlier of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
