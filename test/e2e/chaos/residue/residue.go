// SPDX-License-Identifier: Apache-2.0

// Package residue looks for what saving and restoring pods has left on a local cluster that nobody needs and nobody would ever remove: on
// the nodes, in the API server and in the registry.
package residue

import (
	"context"
	"fmt"
	"time"

	"github.com/cryopod/cryopod/test/e2e/bed"
)

// Leftover is one thing that should not be there. It is the same each time that it is found.
type Leftover struct {
	// Place is a node, "API server" or "registry".
	Place string
	// Kind is what kind of thing it is, Name which.
	Kind, Name string
	// Why says by what it is known that nobody needs it.
	Why string
}

func (l Leftover) String() string {
	return fmt.Sprintf("%s: %s %s: %s", l.Place, l.Kind, l.Name, l.Why)
}

// pause is the time between two looks.
const pause = time.Second

// Find waits until nothing is left, for no longer than that, and returns what still is. What was known before is not counted. An error says
// that it could not be told.
//
// What retention keeps on purpose is not left: PodCheckpoints that are over, for an hour; the images of one that has just ended, for a minute;
// images whose PodCheckpoint was deleted, for two hours. Neither is what the kubelet collects by itself: containers of deleted pods that have
// ended, and the names of checkpoint images that stand for the base image since their restore.
func Find(ctx context.Context, b *bed.Bed, within time.Duration, known ...Leftover) ([]Leftover, error) {
	before := make(map[Leftover]bool, len(known))
	for _, l := range known {
		before[l] = true
	}
	over := time.Now().Add(within)
	for {
		facts, err := gather(ctx, b)
		var found []Leftover
		if err == nil {
			for _, l := range Judge(facts) {
				if !before[l] {
					found = append(found, l)
				}
			}
			if len(found) == 0 {
				return nil, nil
			}
		}
		if time.Now().After(over) {
			return found, err
		}
		select {
		case <-ctx.Done():
			return found, fmt.Errorf("looking for what is left: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}
