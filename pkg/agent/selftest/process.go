// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	// ProcessCommand is the agent's subcommand that is the test's container's process.
	ProcessCommand = "selftest-process"
	// ReadCommand is the agent's subcommand that runs beside it and tells what it remembers.
	ReadCommand = "selftest-read"

	// stateFile is where the process writes what it remembers, in its container's root file system.
	stateFile = "/cryopod-selftest"
	// tick is the pause between two counts.
	tick = 5 * time.Millisecond
)

// memory is what the tested process remembers. A process that was restored goes on counting under the nonce that it drew at
// its start; one that was started anew has another nonce.
type memory struct {
	nonce string
	count int
}

func (m memory) String() string { return fmt.Sprintf("%s %d", m.nonce, m.count) }

func parseMemory(text string) (memory, error) {
	var m memory
	if _, err := fmt.Sscanf(text, "%s %d", &m.nonce, &m.count); err != nil {
		return memory{}, fmt.Errorf("parsing the process's state %q: %w", text, err)
	}
	return m, nil
}

// Process is the tested process: it draws a nonce, counts, and writes both down at each count, until ctx ends.
func Process(ctx context.Context) error {
	nonce := make([]byte, 8)
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("drawing a nonce: %w", err)
	}
	for m := (memory{nonce: hex.EncodeToString(nonce)}); ctx.Err() == nil; m.count++ {
		// Renamed into place, so that no reader sees half of it.
		err := os.WriteFile(stateFile+".new", []byte(m.String()), 0o600)
		if err = errors.Join(err, os.Rename(stateFile+".new", stateFile)); err != nil {
			return fmt.Errorf("writing the process's state: %w", err)
		}
		time.Sleep(tick)
	}
	return nil
}

// Read returns what the process in this container wrote down last.
func Read() (string, error) {
	raw, err := os.ReadFile(stateFile)
	if err != nil {
		return "", fmt.Errorf("reading the process's state: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}
