// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
)

// state is what the commands after Up need to know of a cluster. It is written last, so that a cluster without one is
// the leftover of a killed run.
type state struct {
	Nodes               int
	ContainerdVersion   string
	FeatureGates        map[string]bool `json:",omitempty"`
	RuntimeConfig       map[string]bool `json:",omitempty"`
	Set                 toolchain.Set
	APIHostAddress      string
	RegistryHostAddress string
	Started             time.Time
}

// matches tells whether a running cluster is what the options ask for.
func (s *state) matches(o Options) bool {
	return s.Nodes == o.Nodes && s.ContainerdVersion == o.ContainerdVersion && maps.Equal(s.FeatureGates, o.FeatureGates) &&
		maps.Equal(s.RuntimeConfig, o.RuntimeConfig)
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
