// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
)

// jumps are how far a clock goes. Those beyond a minute make a held lease look old, those beyond ten everything that is made.
var jumps = []time.Duration{-2 * time.Hour, -15 * time.Minute, -90 * time.Second, 90 * time.Second, 15 * time.Minute, 2 * time.Hour}

// skewTimeout bounds the tries to change a clock while no thread reads it.
const skewTimeout = 10 * time.Second

// skewAgent sets the clock of the source's agent.
func skewAgent(ctx context.Context, t *Target, r *rand.Rand) (Undo, string, error) {
	jump := jumps[r.IntN(len(jumps))]
	node, err := t.source()
	if err != nil {
		return nil, "", err
	}
	all, err := processes(ctx, "agent", node)
	if err != nil {
		return nil, "", err
	}
	return skewAll(ctx, jump, all)
}

// skewWebhook sets the clock of one replica of the webhook.
func skewWebhook(ctx context.Context, t *Target, r *rand.Rand) (Undo, string, error) {
	jump, drawn := jumps[r.IntN(len(jumps))], r.Uint64()
	all, err := processes(ctx, "webhook", t.Bed.Cluster.Nodes()...)
	if err != nil {
		return nil, "", err
	}
	if len(all) > 0 {
		i := int(drawn % uint64(len(all)))
		all = all[i : i+1]
	}
	return skewAll(ctx, jump, all)
}

// skewNode sets the clock of all that runs on the source for the cluster: agent, kubelet, containerd, and what else of Cryopod.
func skewNode(ctx context.Context, t *Target, r *rand.Rand) (Undo, string, error) {
	jump := jumps[r.IntN(len(jumps))]
	node, err := t.source()
	if err != nil {
		return nil, "", err
	}
	var all []process
	for _, name := range []string{"agent", "webhook", "scheduler", "kubelet", "containerd"} {
		found, err := processes(ctx, name, node)
		if err != nil {
			return nil, "", err
		}
		all = append(all, found...)
	}
	undo, detail, err := skewAll(ctx, jump, all)
	if undo == nil {
		return nil, detail, err
	}
	return func(ctx context.Context) error {
		if err := undo(ctx); err != nil {
			return err
		}
		for _, component := range components {
			if err := replaceStuck(ctx, t.Bed, component); err != nil {
				return err
			}
		}
		return nil
	}, detail, nil
}

// skewAll sets the clocks of the processes, each at its own moment, and undo sets them right: those that still run. What is started later has
// the right time.
func skewAll(ctx context.Context, jump time.Duration, all []process) (Undo, string, error) {
	var undos []Undo
	undoAll := func(ctx context.Context) error {
		var errs []error
		for _, undo := range undos {
			errs = append(errs, undo(ctx))
		}
		return errors.Join(errs...)
	}
	var set []process
	for _, p := range all {
		undo, err := skew(ctx, p, jump)
		if err != nil && p.started() == 0 {
			continue // it has ended since it was found
		}
		if err != nil {
			return nil, "", errors.Join(err, undoAll(ctx))
		}
		undos, set = append(undos, undo), append(set, p)
	}
	if len(set) == 0 {
		return nil, "no process to set the clock of", nil
	}
	return undoAll, fmt.Sprintf("set the clock of processes %v by %v", set, jump), nil
}

// skew sets the clock of one process, which stands still for the moment that it takes.
func skew(ctx context.Context, p process, jump time.Duration) (Undo, error) {
	dir, err := p.dir()
	if err != nil {
		return nil, err
	}
	started := p.started()
	at, _, _, err := clockOf(dir)
	if err != nil {
		return nil, fmt.Errorf("changing the clock of process %s: %w", p, err)
	}
	code := skewed(int32(jump / time.Second))
	before := make([]byte, len(code))
	if err := readMemory(dir, at, before); err != nil {
		return nil, err
	}
	if err := rewrite(ctx, p, dir, started, code); err != nil {
		return nil, fmt.Errorf("changing the clock of process %s: %w", p, err)
	}
	return func(ctx context.Context) error {
		if err := rewrite(ctx, p, dir, started, before); err != nil {
			return fmt.Errorf("setting the clock of process %s right: %w", p, err)
		}
		return nil
	}, nil
}

// rewrite does nothing to a process that is not the one any more that was started then.
func rewrite(ctx context.Context, p process, dir string, started uint64, code []byte) error {
	ctx, cancel := context.WithTimeout(ctx, skewTimeout)
	defer cancel()
	return bed.Until(ctx, func(ctx context.Context) (err error) {
		same := func() bool { return started != 0 && p.started() == started }
		if !same() {
			return nil
		}
		defer func() {
			if !same() {
				err = nil // it has ended meanwhile
			}
		}()
		if err := p.signal(ctx, "STOP"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.signal(context.WithoutCancel(ctx), "CONT")) }()
		return writeClock(dir, code)
	})
}

func (p process) signal(ctx context.Context, name string) error {
	_, err := p.node.Exec(ctx, "kill", "-"+name, strconv.Itoa(p.pid))
	return err
}

// dir is the process's directory in its node's /proc.
func (p process) dir() (string, error) {
	root, err := p.node.Root()
	return filepath.Join(root, "proc", strconv.Itoa(p.pid)), err
}

// started tells the process from a later one of its number; 0 when it is gone.
func (p process) started() uint64 {
	dir, err := p.dir()
	if err != nil {
		return 0
	}
	return machine.Started(dir)
}
