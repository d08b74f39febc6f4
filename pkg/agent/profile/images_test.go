// SPDX-License-Identifier: Apache-2.0

package profile_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/cryopod/cryopod/pkg/agent/profile"
	"github.com/cryopod/cryopod/pkg/imageindex"
)

// TestImageWatcher makes one list of many events, tries again after a failure, and opens a broken stream again.
func TestImageWatcher(t *testing.T) {
	clock := clocktesting.NewFakeClock(now)
	var lists, streams atomic.Int32
	found := make(chan []imageindex.Image, 10)
	w := &profile.ImageWatcher{
		Watch: func(ctx context.Context, changed func()) error {
			if streams.Add(1) == 1 {
				return errors.New("the runtime was restarted")
			}
			for range 100 {
				changed()
			}
			<-ctx.Done()
			return ctx.Err()
		},
		List: func(context.Context) ([]imageindex.Image, error) {
			if lists.Add(1) == 1 {
				return nil, errors.New("not yet")
			}
			return []imageindex.Image{{Digest: "a@sha256:1"}}, nil
		},
		Found: func(images []imageindex.Image) { found <- images },
		Clock: clock,
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Start(ctx) }()
	deadline := time.After(20 * time.Second)
	for got := false; !got; {
		select {
		case images := <-found:
			got = true
			if len(images) != 1 || images[0].Digest != "a@sha256:1" {
				t.Errorf("found %v", images)
			}
		case <-deadline:
			t.Fatal("no list")
		case <-time.After(time.Millisecond):
			if clock.HasWaiters() {
				clock.Step(time.Second)
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Start = %v", err)
	}
	if streams.Load() != 2 || lists.Load() != 2 {
		t.Errorf("%d streams and %d lists, want 2 of each", streams.Load(), lists.Load())
	}
}
