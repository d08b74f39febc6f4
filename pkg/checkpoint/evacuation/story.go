// SPDX-License-Identifier: Apache-2.0

package evacuation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/checkpoint/removal"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// story is what was told about nodes. It ends with the leader; the next one tells of the notices that still run once more. The zero value is
// ready for use, from many goroutines at once.
type story struct {
	mu    sync.Mutex
	nodes map[string]*chapter
}

// chapter is what was told about one node.
type chapter struct {
	// seen are the notices that were counted, by their causes, with their begins.
	seen map[string]time.Time
	// open is whether people were told that the node is being cleared, and not yet how that ended.
	open bool
	// ending is the notice under which that was, cold how many pods went since without an attempt.
	ending Ending
	cold   int
}

// notice tells what is news about the notice: that it is there at all, and that the node is being cleared.
func (s *story) notice(e Ending, clearing bool) (first, announce bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.nodes[e.Node]
	if c == nil {
		c = &chapter{seen: map[string]time.Time{}}
		if s.nodes == nil {
			s.nodes = map[string]*chapter{}
		}
		s.nodes[e.Node] = c
	}
	if at, known := c.seen[e.Cause]; !known || !at.Equal(e.Since) {
		c.seen[e.Cause], first = e.Since, true
	}
	if clearing && !c.open {
		c.open, c.ending, c.cold, announce = true, e, 0, true
	}
	return first, announce
}

// wentCold notes a pod that went without an attempt.
func (s *story) wentCold(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.nodes[node]; c != nil {
		c.cold++
	}
}

// end closes what is open about the node, and tells whether anything was.
func (s *story) end(node string) (under Ending, cold int, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.nodes[node]
	if c == nil || !c.open {
		return Ending{}, 0, false
	}
	c.open = false
	return c.ending, c.cold, true
}

// forget drops a node that is no more, or has no notice.
func (s *story) forget(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, node)
}

// announce counts the notice, and tells on the node that it is being cleared. Where another leader did that, and nothing is left to do, how it
// ended is told all the same.
func (r *Reconciler) announce(ctx context.Context, node *corev1.Node, e Ending, plan []Action) error {
	first, announce := r.story.notice(e, len(plan) > 0)
	if first {
		metrics.CountEnd(metrics.CauseOfNotice(e.Cause))
	}
	if first && len(plan) == 0 {
		made, err := r.since(ctx, e)
		if len(made) > 0 {
			r.story.notice(e, true)
		}
		return err
	}
	if !announce {
		return nil
	}
	cold := 0
	for i := range plan {
		if plan[i].Cold != "" {
			cold++
		}
	}
	what := fmt.Sprintf("%d pod(s) are being saved", len(plan)-cold)
	if cold > 0 {
		what += fmt.Sprintf(", %d can't be and go without a checkpoint", cold)
	}
	r.Events.Eventf(node, nil, corev1.EventTypeNormal, event.ReasonNotice, "Evacuate",
		"%s: %s; the node ends at %s", e.Cause, what, e.Deadline.UTC().Format(time.RFC3339))
	return nil
}

// since lists the attempts to save pods of the node that were under way when the notice came, or later.
func (r *Reconciler) since(ctx context.Context, e Ending) ([]v1alpha1.PodCheckpoint, error) {
	all, err := index.FromNode(ctx, r.Client, e.Node)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(pc v1alpha1.PodCheckpoint) bool { return !pc.Spec.Fence || lastChange(&pc).Before(e.Since) }), nil
}

// conclude tells on the node how its clearing ended, once, when no pod is left to be moved or the notice is over.
func (r *Reconciler) conclude(ctx context.Context, node *corev1.Node) error {
	e, cold, open := r.story.end(node.Name)
	if !open {
		return nil
	}
	made, err := r.since(ctx, e)
	if err != nil {
		return err
	}
	left, err := r.left(ctx, e)
	if err != nil {
		return err
	}
	saved := 0
	for i := range made {
		switch made[i].Status.Phase {
		case v1alpha1.PhaseReady, v1alpha1.PhaseClaimed, v1alpha1.PhaseRestored:
			saved++
		case v1alpha1.PhaseFailed:
			cold++
		}
	}
	what := fmt.Sprintf("%d pod(s) were saved and %d went without a checkpoint", saved, cold)
	if left > 0 {
		what += fmt.Sprintf(", %d are still there", left)
	}
	r.Events.Eventf(node, nil, corev1.EventTypeNormal, event.ReasonNoticeOver, "Evacuate", "%s, %s after the notice began",
		what, r.Clock.Since(e.Since).Round(time.Second/10))
	return nil
}

// left counts the pods that are still on the node. Where its time is up, and it would have waited for them, each is told that nobody tries
// any more.
func (r *Reconciler) left(ctx context.Context, e Ending) (int, error) {
	pods, err := index.OnNode(ctx, r.Client, e.Node)
	if err != nil {
		return 0, err
	}
	n, c := 0, Case{Ending: e}
	for i := range pods {
		if !c.concerns(&pods[i]) {
			continue
		}
		n++
		if e.Voluntary && !r.Clock.Now().Before(e.Deadline) {
			r.GiveUp(removal.Order{Pod: &pods[i], Reason: e.Reason}, "its PodDisruptionBudget allows no disruption", e.Deadline)
		}
	}
	return n, nil
}
