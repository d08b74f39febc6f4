// SPDX-License-Identifier: Apache-2.0

package rewind

import (
	"context"
	"sync"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/metrics"
)

// strays are the restored containers that are called exited, by their IDs, and how far the Rewinder is with making sure of it.
type strays struct {
	mu    sync.Mutex
	known map[string]progress
}

type progress int

const (
	unknown progress = iota
	asking
	over
)

// set notes how far the Rewinder is with a container, and returns how far it was. One that is being asked for or over is not begun again.
func (s *strays) set(id string, p progress) (was progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was = s.known[id]
	if p == asking && was != unknown {
		return was
	}
	if s.known == nil {
		s.known = map[string]progress{}
	}
	s.known[id] = p
	return was
}

// forget drops the containers that are no more.
func (s *strays) forget(all []*runtimeapi.Container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) == 0 {
		return
	}
	there := map[string]bool{}
	for _, c := range all {
		there[c.GetId()] = true
	}
	for id := range s.known {
		if !there[id] {
			delete(s.known, id)
		}
	}
}

// ended reports whether nothing runs of a container that is called exited, nor will. It begins to end what does, and does not wait for that: where a
// restore is under way, nobody is answered before it is done.
func (r *Rewinder) ended(ctx context.Context, c *runtimeapi.Container) bool {
	switch r.strays.set(c.GetId(), asking) {
	case over:
		return true
	case unknown:
		go r.end(ctx, c)
	case asking:
	}
	return false
}

func (r *Rewinder) end(ctx context.Context, c *runtimeapi.Container) {
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	logger := log.FromContext(ctx).WithName("rewind").WithValues("container", c.GetId(), "image", c.GetAnnotations()[annotationImage])
	killed, done, err := r.Tasks.KillStray(ctx, c.GetPodSandboxId(), c.GetId())
	switch {
	case err != nil:
		logger.Error(err, "Ending what runs of a container that the runtime calls exited")
		r.pause(ctx, again)
	case killed:
		metrics.CountStray()
		logger.Info("A container was restored after its start had been given up, and ran with nobody to stop it; killed")
	}
	if err == nil && done {
		r.strays.set(c.GetId(), over)
		return
	}
	r.strays.set(c.GetId(), unknown)
}
