// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	ours "github.com/cryopod/cryopod/pkg/admission"
)

// replica is one life of a replica of the webhook: production's handlers.
type replica struct {
	p      *Proc
	create *ours.PodCreate
	evict  *ours.Eviction
	delete *ours.Delete
}

// startReplica begins a life of a replica.
func (w *World) startReplica(name string) {
	p := w.newProc(name, oursFaults, true)
	changes := &ours.Waiter{}
	p.cache.tell = func(ch change) {
		if ch.ref.kind == "PodCheckpoint" {
			changes.OnUpdate(nil, ch.object())
		}
	}
	live := &api{p: p, live: true}
	d := ours.Dependencies{Live: live, Cached: &api{p: p}, Writer: live, Events: noEvents{}, Clock: p.clock, Changes: changes}
	w.lives++
	ids, life := 0, w.lives
	newID := func() string { ids++; return fmt.Sprintf("claim-%d-%d", life, ids) }
	keeper := ours.NewKeeper(d, ours.Options{})
	w.replicas[name] = &replica{
		p: p, create: ours.NewPodCreate(d, ours.Options{}, newID), evict: ours.NewEviction(keeper), delete: ours.NewDelete(keeper),
	}
}

func (r *replica) handle(ctx context.Context, to path, req admission.Request) admission.Response {
	no := false
	req.DryRun = &no
	switch to {
	case createPath:
		return r.create.Handle(ctx, req)
	case evictPath:
		return r.evict.Handle(ctx, req)
	default:
		return r.delete.Handle(ctx, req)
	}
}

// replica is the one that answers the next request, nil when none lives. They take turns.
func (w *World) replica() *replica {
	for range webhooks {
		name := webhooks[w.turn%len(webhooks)]
		w.turn++
		if r := w.replicas[name]; r != nil && !r.p.gone() {
			return r
		}
	}
	return nil
}

// webhooks are the names of the replicas.
var webhooks = []string{"webhook a", "webhook b"}
