// SPDX-License-Identifier: Apache-2.0

package world

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// kind says where a call goes, and so what can go wrong with it.
type kind int

const (
	// read and write are requests to the API server.
	read kind = iota
	write
	// node is a call on the node itself: to the container runtime or the kubelet. Once its caller has given up, it has no effect.
	node
	// registry is a call to the registry.
	registry
)

// errCut is what a caller gets whose request the API server did not answer.
var errCut = errors.New("the API server can't be reached")

// op is a call that somebody makes and that has not had its effect yet.
type op struct {
	p      *Proc
	what   string
	kind   kind
	effect func() error
	reply  chan verdict

	round     int       // when it was first seen
	after     time.Time // stalled until then
	last      bool      // stalled until nothing else is to be done now
	asked     bool      // somebody chose for it already
	abandoned bool      // its caller waits no more
}

type verdict struct {
	err error
	die bool
}

// do makes a call. It takes effect when the schedule says so, and perhaps not at all, or unknown to the caller. The goroutines of a process
// that is dead end in their next call.
func (p *Proc) do(ctx context.Context, k kind, what string, effect func() error) error {
	if p.gone() {
		runtime.Goexit()
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	o := &op{p: p, what: what, kind: k, effect: effect, reply: make(chan verdict, 1)}
	p.w.submit(o)
	var v verdict
	select {
	case v = <-o.reply:
	case <-ctx.Done():
		p.w.abandon(o)
		v.err = fmt.Errorf("%s: %w", what, ctx.Err())
	}
	if v.die || p.gone() {
		runtime.Goexit()
	}
	return v.err
}

func (w *World) submit(o *op) {
	w.mu.Lock()
	w.arriving = append(w.arriving, o)
	w.mu.Unlock()
	w.poke()
}

// abandon notes that the caller waits no more. A write may still be on its way to the API server; a call on the node is withdrawn.
func (w *World) abandon(o *op) {
	w.mu.Lock()
	o.abandoned = true
	w.mu.Unlock()
	w.poke()
}

// poke has the scheduler look again.
func (w *World) poke() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// next is the call that is to take effect now by the fair order: who came first, and of those that came together in the order of their
// names; nil when there is none.
func (w *World) next() *op {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.round++
	slices.SortStableFunc(w.arriving, func(a, b *op) int { return cmp.Or(cmp.Compare(a.p.Name, b.p.Name), cmp.Compare(a.what, b.what)) })
	for _, o := range w.arriving {
		o.round = w.round
		w.pending = append(w.pending, o)
	}
	w.arriving = nil
	w.pending = slices.DeleteFunc(w.pending, func(o *op) bool { return o.abandoned && o.kind != write })
	var first *op
	now := time.Now()
	for _, o := range w.pending {
		if o.after.After(now) {
			continue
		}
		if first == nil || first.last && !o.last {
			first = o
		}
	}
	return first
}

// take removes the call from those that wait.
func (w *World) take(o *op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = slices.DeleteFunc(w.pending, func(other *op) bool { return other == o })
}

// grant lets the call have its effect, and tells its caller.
func (w *World) grant(o *op, lost bool) {
	w.take(o)
	if o.p.cutOff() && (o.kind == read || o.kind == write) {
		o.reply <- verdict{err: errCut}
		return
	}
	err := o.effect()
	w.tell(o.p.Name, o.what, outcome(err, lost))
	if lost {
		err = errCut
	}
	o.reply <- verdict{err: err}
}

func outcome(err error, lost bool) string {
	switch {
	case err != nil:
		return "refused: " + firstLine(err.Error())
	case lost:
		return "done, but the answer is lost"
	}
	return ""
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// at has something done when the time has come.
func (w *World) at(when time.Time, do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.agenda = append(w.agenda, &entry{when: when, do: do})
	slices.SortStableFunc(w.agenda, func(a, b *entry) int { return a.when.Compare(b.when) })
}

// entry is something that is to be done at a time.
type entry struct {
	when time.Time
	do   func()
}

// due does the first entry of the agenda whose time has come.
func (w *World) due() bool {
	w.mu.Lock()
	if len(w.agenda) == 0 || w.agenda[0].when.After(time.Now()) {
		w.mu.Unlock()
		return false
	}
	e := w.agenda[0]
	w.agenda = w.agenda[1:]
	w.mu.Unlock()
	e.do()
	return true
}

// pass lets time pass until something happens; false when the schedule is over.
func (w *World) pass() bool {
	now := time.Now()
	until := w.end
	w.mu.Lock()
	if len(w.agenda) > 0 && w.agenda[0].when.Before(until) {
		until = w.agenda[0].when
	}
	for _, o := range w.pending {
		if o.after.After(now) && o.after.Before(until) {
			until = o.after
		}
	}
	w.mu.Unlock()
	if !now.Before(until) {
		return false
	}
	timer := time.NewTimer(until.Sub(now))
	defer timer.Stop()
	select {
	case <-w.woken:
	case <-timer.C:
	}
	return true
}
