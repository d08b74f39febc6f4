// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"context"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/agent/stream"
)

const (
	// idle is the pause between two looks while nothing is being pulled, busy while something is, or is expected.
	idle = time.Second
	busy = 250 * time.Millisecond
	// expected is how long after a pod's start its pulls are looked for.
	expected = 10 * time.Second
)

// Puller tells what is being pulled.
type Puller interface {
	// Ingests are the layers that are being pulled.
	Ingests(ctx context.Context) ([]containerd.Ingest, error)
	// Arrived tells how large a layer is and when it was whole; false when it is not there.
	Arrived(ctx context.Context, layer string) (bytes int64, at time.Time, ok bool, err error)
}

// PullWatcher measures how fast the node pulls.
type PullWatcher struct {
	// Puller is the runtime.
	Puller Puller
	// Watch calls starts when a pod or a container of one is made, until the stream ends: small pulls would else be over before they are seen.
	Watch func(ctx context.Context, starts func()) error
	// Measured is told that so many bytes came in that time.
	Measured func(bytes int64, took time.Duration)
	// Clock is the time.
	Clock clock.Clock

	meter PullMeter
}

// Start measures until ctx ends.
func (w *PullWatcher) Start(ctx context.Context) error {
	starts := make(chan struct{}, 1)
	go w.measure(ctx, starts)
	stream.Follow(ctx, w.Clock, "starts of containers", w.Watch, starts)
	return nil
}

func (w *PullWatcher) measure(ctx context.Context, starts <-chan struct{}) {
	logger := log.FromContext(ctx).WithName("pulls")
	var until time.Time
	for {
		pulling, err := w.look(ctx)
		if err != nil {
			logger.V(1).Info("Could not look at what is being pulled", "error", err.Error())
		}
		pause := w.Clock.After(busy)
		if !pulling && !w.Clock.Now().Before(until) {
			select {
			case <-ctx.Done():
				return
			case <-starts:
				until = w.Clock.Now().Add(expected)
			case <-w.Clock.After(idle):
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-pause:
		}
	}
}

// look tells the meter how far the pulls are, and reports whether there are any.
func (w *PullWatcher) look(ctx context.Context) (bool, error) {
	pulls, err := w.Puller.Ingests(ctx)
	if err != nil {
		return false, err
	}
	now := w.Clock.Now()
	present := map[string]bool{}
	for _, p := range pulls {
		present[p.Digest] = true
	}
	whole := map[string]Arrival{}
	for _, digest := range w.meter.Seen() {
		if present[digest] {
			continue
		}
		bytes, at, ok, err := w.Puller.Arrived(ctx, digest)
		if err != nil {
			return true, err
		}
		if ok {
			whole[digest] = Arrival{Bytes: bytes, At: at}
		}
	}
	if bytes, took := w.meter.Look(now, pulls, whole); took > 0 {
		w.Measured(bytes, took)
	}
	return len(pulls) > 0, nil
}
