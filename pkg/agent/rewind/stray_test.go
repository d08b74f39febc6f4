// SPDX-License-Identifier: Apache-2.0

package rewind_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/agent/rewind"
)

// runtime restores one container in a time of its own: it is created at the event, called exited when its asker goes, and comes alive when its restore is done.
// All times count from the event, which comes an hour after the runtime is first watched.
type runtime struct {
	exited, alive time.Duration
	// failures is how often the runtime does not answer when it is asked to kill.
	failures int

	begun  time.Time
	mu     sync.Mutex
	looks  int
	killed time.Duration
}

func (r *runtime) since() time.Duration { return time.Since(r.begun) }

func (r *runtime) ListContainers(context.Context, *runtimeapi.ListContainersRequest) ([]*runtimeapi.Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	switch at := r.since(); {
	case at < 0:
		return nil, nil
	case at < r.exited:
		return []*runtimeapi.Container{in(runtimeapi.ContainerState_CONTAINER_CREATED, restored("reg/checkpoints/ns:pc.app"))}, nil
	default:
		return []*runtimeapi.Container{in(runtimeapi.ContainerState_CONTAINER_EXITED, restored("reg/checkpoints/ns:pc.app"))}, nil
	}
}

// KillStray waits for the restore, as a shim does.
func (r *runtime) KillStray(ctx context.Context, _, _ string) (killed, over bool, err error) {
	r.mu.Lock()
	r.failures--
	fails, wait := r.failures >= 0, r.alive-r.since()
	r.mu.Unlock()
	if fails {
		return false, false, errors.New("away")
	}
	select {
	case <-ctx.Done():
		return false, false, ctx.Err()
	case <-time.After(max(wait, 0)):
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed = r.since()
	return true, true, nil
}

func (*runtime) Repoint(context.Context, string, string) (bool, error) { return true, nil }

func (r *runtime) watch(ctx context.Context, changed func()) error {
	r.mu.Lock()
	r.begun = time.Now().Add(time.Hour)
	r.mu.Unlock()
	changed()
	select {
	case <-ctx.Done():
	case <-time.After(time.Hour):
		changed()
		<-ctx.Done()
	}
	return nil
}

// TestStrayIsEndedAsItComesAlive has nothing tell that a restore which nobody waits for is done: the agent has to look for itself, until then and no longer.
func TestStrayIsEndedAsItComesAlive(t *testing.T) {
	for name, tc := range map[string]*runtime{
		"at once":                       {exited: 50 * time.Millisecond, alive: 60 * time.Millisecond},
		"long after the event":          {exited: 20 * time.Second, alive: 21 * time.Second},
		"a restore that takes a while":  {exited: 2 * time.Second, alive: time.Minute},
		"the runtime is away meanwhile": {exited: 2 * time.Second, alive: time.Minute, failures: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				r := &rewind.Rewinder{Prefix: "reg/checkpoints", Containers: tc, Images: tc, Tasks: tc, Watch: tc.watch, Clock: clock.RealClock{}}
				go func() { _ = r.Start(ctx) }()
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				tc.mu.Lock()
				looks, late := tc.looks, tc.killed-tc.alive
				tc.mu.Unlock()
				if tc.killed == 0 || late > 150*time.Millisecond {
					t.Errorf("killed %v after the event, which is %v after it came alive; want no more than 150ms", tc.killed, late)
				}
				time.Sleep(time.Hour)
				if tc.looks != looks {
					t.Errorf("looked %d times more in an hour after it was over", tc.looks-looks)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}
