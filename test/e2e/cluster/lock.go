// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockInterval is how often a lock that another command holds is tried.
const lockInterval = 100 * time.Millisecond

// hold takes the cluster's lock, so that no two commands bring it up or down at once.
func (l layout) hold(ctx context.Context) (release func(), err error) {
	for {
		f, err := l.tryHold()
		if err != nil {
			return nil, err
		}
		if f != nil {
			return func() { _ = f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another command that works on this cluster: %w", ctx.Err())
		case <-time.After(lockInterval):
		}
	}
}

// tryHold returns the locked file, or nil while another command has it.
func (l layout) tryHold() (*os.File, error) {
	if err := os.MkdirAll(l.base, 0o755); err != nil {
		return nil, fmt.Errorf("creating the state directory: %w", err)
	}
	f, err := os.OpenFile(l.lock(), os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // the last cluster went away meanwhile, and the directory with it
	}
	if err != nil {
		return nil, fmt.Errorf("opening the cluster's lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return nil, f.Close()
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("taking the cluster's lock: %w", err)
	}
	// Down removes the file while it holds the lock: what was locked here may be nobody's any more.
	if !l.current(f) {
		return nil, f.Close()
	}
	return f, nil
}

func (l layout) current(f *os.File) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(l.lock())
	return err == nil && os.SameFile(held, named)
}
