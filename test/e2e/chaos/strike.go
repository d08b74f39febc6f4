// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/chaos/fault"
	"github.com/cryopod/cryopod/test/e2e/chaos/history"
	"github.com/cryopod/cryopod/test/e2e/chaos/plan"
)

const (
	// doTimeout bounds the making of a fault, undoTimeout its end.
	doTimeout   = 30 * time.Second
	undoTimeout = 2 * time.Minute
)

// strike makes one fault at its moment, as long as striking is not over by then, and ends it. An error is one of the end: what can't be
// made is taken down, and does no harm.
func (r *run) strike(ctx, striking context.Context, id int, s plan.Strike) error {
	note := func(f history.Fault) {
		f.ID, f.Name = id, s.Fault
		r.log.Add(history.Entry{Fault: &f})
	}
	if err := r.moment(striking, s); err != nil {
		note(history.Fault{Skipped: true, Detail: fmt.Sprintf("its moment %q did not come", s.Phase)})
		return nil
	}
	f, ok := faultOf(s.Fault)
	if !ok {
		return fmt.Errorf("there is no fault %q", s.Fault)
	}
	target := &fault.Target{Bed: r.Bed, Node: r.source, Namespace: r.maker.Namespace}
	if s.Target {
		target.Node = r.target
	}
	doing, cancel := context.WithTimeout(ctx, doTimeout)
	undo, detail, err := f.Do(doing, target, rand.New(rand.NewPCG(s.Seed, 0)))
	cancel()
	if err != nil {
		note(history.Fault{Skipped: true, Error: err.Error()})
		return nil
	}
	note(history.Fault{Detail: detail})
	r.mu.Lock()
	r.faults = append(r.faults, s.Fault)
	r.mu.Unlock()
	if undo != nil {
		lasts := time.Now()
		if s.Fault == plan.AllDown {
			r.probes(ctx)
		}
		_ = sleep(ctx, s.Length-time.Since(lasts))
		err = r.undo(ctx, undo)
	}
	over := history.Fault{Over: true}
	if err != nil {
		over.Error = err.Error()
		err = fmt.Errorf("ending fault %q: %w", s.Fault, err)
	}
	note(over)
	return err
}

// undo ends a fault, and tries again while something else keeps it from that.
func (r *run) undo(ctx context.Context, undo fault.Undo) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return r.insist(ctx, undo)
}

// moment returns when it is time for a strike.
func (r *run) moment(ctx context.Context, s plan.Strike) error {
	if s.Phase != "" {
		if err := r.witness.until(ctx, func(p v1alpha1.Phase) bool { return plan.Reached(p, s.Phase) }); err != nil {
			return err
		}
	}
	return sleep(ctx, s.Delay)
}

// joined is the errors as one, in a fixed order; nil for none.
func joined(errs []error) error {
	var all []string
	for _, err := range errs {
		if err != nil {
			all = append(all, err.Error())
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	return errors.New(strings.Join(all, "; "))
}
