// SPDX-License-Identifier: Apache-2.0

package fresh_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cryopod/cryopod/pkg/admission/fresh"
)

// slow reads how often it was called before, and takes a second.
func slow(calls *atomic.Int64) func(context.Context, string) (int64, error) {
	return func(ctx context.Context, _ string) (int64, error) {
		n := calls.Add(1)
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Second):
			return n, nil
		}
	}
}

func TestReadsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		r := fresh.NewReader(slow(&calls))
		got := make(chan int64, 20)
		ask := func() {
			n, err := r.Get(t.Context(), "node")
			if err != nil {
				t.Error(err)
			}
			got <- n
		}
		go ask()
		synctest.Wait()
		for range 9 { // while the first read is under way
			go ask()
		}
		synctest.Wait()
		if n := calls.Load(); n != 1 {
			t.Fatalf("%d reads are under way, want 1", n)
		}
		if n := <-got; n != 1 {
			t.Errorf("who asked first got read %d, want 1", n)
		}
		for range 9 {
			if n := <-got; n != 2 {
				t.Errorf("who asked during the first read got read %d, want 2: the first may have been answered before", n)
			}
		}
		synctest.Wait()
		ask()
		if n := <-got; n != 3 {
			t.Errorf("who asked when all was over got read %d, want 3", n)
		}
	})
}

func TestKeysDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		r := fresh.NewReader(slow(&calls))
		began := time.Now()
		done := make(chan error, 2)
		for _, key := range []string{"a", "b"} {
			go func() {
				_, err := r.Get(t.Context(), key)
				done <- err
			}()
		}
		if err := errors.Join(<-done, <-done); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("both took %s, want 1s", took)
		}
	})
}

func TestWhoGivesUpLeavesTheOthersTheirRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		r := fresh.NewReader(slow(&calls))
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := r.Get(ctx, "node")
			first <- err
		}()
		synctest.Wait()
		second := make(chan error, 1)
		go func() {
			_, err := r.Get(t.Context(), "node")
			second <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up got error %v, want %v", err, context.Canceled)
		}
		if err := <-second; err != nil {
			t.Errorf("who stayed got error %v", err)
		}
	})
}

func TestAReadThatFailsFailsForThoseWhoShareIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		calls := 0
		r := fresh.NewReader(func(context.Context, int) (int, error) {
			if calls++; calls == 1 {
				return 0, broken
			}
			return calls, nil
		})
		if _, err := r.Get(t.Context(), 1); !errors.Is(err, broken) {
			t.Errorf("got error %v, want %v", err, broken)
		}
		if n, err := r.Get(t.Context(), 1); n != 2 || err != nil {
			t.Errorf("the next read gave %d, %v, want 2", n, err)
		}
	})
}

func TestAReadEndsWithItsPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := fresh.NewReader(func(ctx context.Context, _ int) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		began := time.Now()
		if _, err := r.Get(t.Context(), 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
		}
		if took := time.Since(began); took != fresh.Patience {
			t.Errorf("it took %s, want %s", took, fresh.Patience)
		}
	})
}
