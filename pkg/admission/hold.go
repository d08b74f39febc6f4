// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/metrics"
)

// hold is a request's right to be held, and what wakes it.
type hold struct {
	clock   clock.Clock
	changed <-chan struct{}
	release func()
}

// hold takes one of the seats, nil when all are taken. The caller has to look at the object once more before it waits: it may
// have changed before the watch began.
func (h *Eviction) hold(key client.ObjectKey) *hold {
	select {
	case h.holds <- struct{}{}:
	default:
		return nil
	}
	changed, stop := h.Changes.Watch(key)
	start := h.Clock.Now()
	done := metrics.HoldEviction()
	return &hold{clock: h.Clock, changed: changed, release: func() {
		stop()
		done(h.Clock.Since(start))
		<-h.holds
	}}
}

// wait returns when the object has changed or the time has come, and false when the request has ended.
func (w *hold) wait(ctx context.Context, until time.Time) bool {
	timer := w.clock.NewTimer(until.Sub(w.clock.Now()))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w.changed:
	case <-timer.C():
	}
	return true
}

// end gives the seat back. A request that was never held has nothing to give.
func (w *hold) end() {
	if w != nil {
		w.release()
	}
}
