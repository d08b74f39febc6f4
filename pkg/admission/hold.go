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
	changes *Waiter
	key     client.ObjectKey
	changed <-chan struct{}
	unwatch func()
	release func()
}

// hold takes one of the seats, nil when all are taken. The caller has to look at the object once more before it waits: it may
// have changed before the watch began.
func (k *Keeper) hold(key client.ObjectKey) *hold {
	select {
	case k.holds <- struct{}{}:
	default:
		return nil
	}
	start := k.Clock.Now()
	done := metrics.HoldEviction()
	w := &hold{clock: k.Clock, changes: k.Changes, unwatch: func() {}, release: func() {
		done(k.Clock.Since(start))
		<-k.holds
	}}
	w.watch(key)
	return w
}

// watch makes the hold wake for that object from now on, and tells whether it did not do so before. The caller then has to look at it
// once more, as after hold.
func (w *hold) watch(key client.ObjectKey) (anew bool) {
	if w.changed != nil && w.key == key {
		return false
	}
	w.unwatch()
	w.key = key
	w.changed, w.unwatch = w.changes.Watch(key)
	return true
}

// wake is what ends a wait.
type wake int

const (
	notYet wake = iota
	byChange
	byTime
	byEnd
)

// wait returns when the object has changed, the time has come, or the request has ended, and tells which.
func (w *hold) wait(ctx context.Context, until time.Time) wake {
	timer := w.clock.NewTimer(until.Sub(w.clock.Now()))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return byEnd
	case <-w.changed:
		return byChange
	case <-timer.C():
		return byTime
	}
}

// end gives the seat back. A request that was never held has nothing to give.
func (w *hold) end() {
	if w != nil {
		w.unwatch()
		w.release()
	}
}
