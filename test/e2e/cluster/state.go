// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
)

// state is what the commands after Up need to know of a cluster. It is written last, so that a cluster without one is
// the leftover of a killed run.
type state struct {
	Nodes               int
	ContainerdVersion   string
	FeatureGates        map[string]bool `json:",omitempty"`
	Set                 toolchain.Set
	APIHostAddress      string
	RegistryHostAddress string
	Started             time.Time
}

// matches tells whether a running cluster is what the options ask for.
func (s *state) matches(o Options) bool {
	return s.Nodes == o.Nodes && s.ContainerdVersion == o.ContainerdVersion && maps.Equal(s.FeatureGates, o.FeatureGates)
}

func (s *state) write(path string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the cluster's state: %w", err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("writing the cluster's state: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing the cluster's state: %w", err)
	}
	return nil
}

func readState(path string) (*state, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's state: %w", err)
	}
	s := &state{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("decoding %q: %w", path, err)
	}
	return s, nil
}

// hold takes the cluster's lock, so that no two commands bring it up or down at once.
func (l layout) hold(ctx context.Context) (release func(), err error) {
	if err := os.MkdirAll(filepath.Dir(l.lock()), 0o755); err != nil {
		return nil, fmt.Errorf("creating the state directory: %w", err)
	}
	f, err := os.OpenFile(l.lock(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the cluster's lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("taking the cluster's lock: %w", err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("waiting for another command that works on this cluster: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
