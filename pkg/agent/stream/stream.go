// SPDX-License-Identifier: Apache-2.0

// Package stream follows the runtime's events. What they say does not matter to those who follow them, only that there was one: they look for themselves.
package stream

import (
	"context"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// again is the pause before a stream that broke off is opened again.
const again = 2 * time.Second

// Poke sends to a channel unless that is full. With a capacity of one, what was not seen yet is sent once.
func Poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Follow pokes the channel whenever watch tells of a change, which a stream does at its beginning as well, and opens a stream that ended again, until
// ctx ends. The name is for the log.
func Follow(ctx context.Context, clk clock.Clock, name string, watch func(ctx context.Context, changed func()) error, changed chan<- struct{}) {
	for {
		err := watch(ctx, func() { Poke(changed) })
		if ctx.Err() != nil {
			return
		}
		log.FromContext(ctx).V(1).Info("A stream of events ended; opening it again", "events", name, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-clk.After(again):
		}
	}
}
