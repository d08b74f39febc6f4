// SPDX-License-Identifier: Apache-2.0

package stream_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/agent/stream"
)

// TestFollow has a stream break off twice, and ends while the third is open.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun := time.Now()
		changed := make(chan struct{}, 1)
		var opened []time.Duration
		stream.Follow(ctx, clock.RealClock{}, "test", func(ctx context.Context, tell func()) error {
			opened = append(opened, time.Since(begun))
			tell()
			tell() // nobody reads: it does not block
			if len(opened) < 3 {
				return errors.New("broken")
			}
			<-ctx.Done()
			return nil
		}, changed)
		if len(opened) != 3 || opened[1] != 2*time.Second || opened[2] != 4*time.Second {
			t.Errorf("opened after %v, want three times, 2 s apart", opened)
		}
		if len(changed) != 1 {
			t.Error("the changes were not told of")
		}
		if took := time.Since(begun); took != time.Minute {
			t.Errorf("returned after %v, want the end of its context", took)
		}
	})
}
