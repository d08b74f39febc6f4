// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const (
	// lastEvictions is how long an agent that ends leaves a Ready pod frozen for those who evict it: kubectl asks again after 5 s.
	lastEvictions = 6 * time.Second
	// watchEvictions is how often it looks meanwhile whether they have.
	watchEvictions = 500 * time.Millisecond
	// tidying bounds how long it removes, in the end, what all the checkpoints together left in the registry and on the node.
	tidying = 4 * time.Second
)

// errStopping ends attempts, and fences, when the agent ends.
var errStopping = errors.New("the agent is being stopped")

// ending is what an agent that ends still has to do.
type ending struct {
	// release is when it lets the pods go on that nobody has deleted.
	release time.Time
	// left is what it removes once no pod waits for it any more.
	left []leftover
}

// Stop ends the attempts that are under way as failed, and releases every Ready checkpoint whose pod nobody deletes within lastEvictions:
// nobody may be there to do it later. All pods are looked after at the same time, and what was made of those that go on is removed after
// that. What there is no time for stays in the ledger, for the agent's next life. Stop returns when that is done, or when ctx ends.
func (r *Reconciler) Stop(ctx context.Context) {
	r.mu.Lock()
	r.ending = &ending{release: r.Clock.Now().Add(lastEvictions)}
	attempts := maps.Clone(r.running)
	r.mu.Unlock()
	r.haltAll(ctx)
	for _, run := range attempts {
		run.cancel(errStopping)
	}
	var pods sync.WaitGroup
	for _, entry := range r.Ledger.All() {
		pods.Go(func() {
			if run := attempts[entry.Checkpoint]; run != nil {
				<-run.done
			}
			if err := r.conclude(ctx, entry); err != nil {
				log.FromContext(ctx).Error(err, "Releasing a checkpoint before the agent ends", "checkpoint", entry.Checkpoint)
			}
		})
	}
	pods.Wait()
	r.group.Wait()
	r.tidy(ctx)
}

// conclude brings one frozen pod as far as it gets: thawed where its checkpoint can't be claimed any more, frozen where its pod was deleted.
func (r *Reconciler) conclude(ctx context.Context, entry fence.Entry) error {
	for {
		pc := &v1alpha1.PodCheckpoint{}
		if err := r.Live.Get(ctx, entry.Checkpoint, pc); err != nil {
			return client.IgnoreNotFound(err)
		}
		switch phase := phaseOf(pc); {
		case pc.UID != entry.CheckpointUID:
			return nil
		case phase.Final():
			_, err := r.settle(ctx, pc)
			return err
		case phase != v1alpha1.PhaseReady:
			return nil
		}
		alive, err := r.alive(ctx, pc.Namespace, pc.Spec.PodName, pc.Spec.PodUID)
		if err != nil || alive == nil && pc.Spec.Fence {
			return err
		}
		result, err := r.fence(ctx, pc)
		if err != nil || result.IsZero() {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("releasing checkpoint %q: %w", entry.Checkpoint, ctx.Err())
		case <-r.Clock.After(min(result.RequeueAfter, watchEvictions)):
		}
	}
}

// tidy removes what was put aside, all at the same time.
func (r *Reconciler) tidy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tidying)
	defer cancel()
	r.mu.Lock()
	left := r.ending.left
	r.mu.Unlock()
	var all sync.WaitGroup
	for _, l := range left {
		all.Go(func() {
			if err := r.discard(ctx, l); err != nil {
				log.FromContext(ctx).Info("Leaving it to the next agent", "checkpoint", l.entry.Checkpoint, "reason", err.Error())
			}
		})
	}
	all.Wait()
}

// putAside keeps for later what a checkpoint left, while the agent ends; false at all other times.
func (r *Reconciler) putAside(l leftover) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ending == nil {
		return false
	}
	r.ending.left = append(r.ending.left, l)
	return true
}

// patience is for how long a fence may still hold: without bounds unless the agent ends.
func (r *Reconciler) patience() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ending == nil {
		return math.MaxInt64
	}
	return r.ending.release.Sub(r.Clock.Now())
}

func (r *Reconciler) isStopping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ending != nil
}
