// SPDX-License-Identifier: Apache-2.0

package profile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cryopod/cryopod/pkg/agent/profile"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
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

// TestBurst has 50 images pulled within 10 s, as on a new node, each of which measures another rate: the profile is written twice.
func TestBurst(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var writes []int
		api := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).WithObjects(&v1alpha1.NodeProfile{
			ObjectMeta: metav1.ObjectMeta{Name: "node-1"},
		}).Build(), interceptor.Funcs{Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			index, err := imageindex.Unpack(o.(*v1alpha1.NodeProfile).Status.ImageIndex)
			if err != nil {
				t.Error(err)
				return err
			}
			writes = append(writes, len(index.Images))
			return c.Update(ctx, o, opts...)
		}})
		facts := &profile.Profile{}
		p := profile.NewPublisher("node-1", api, facts.Facts, clock.RealClock{})
		facts.Changed, facts.Unhurried = p.Changed, p.Unhurried
		var mu sync.Mutex
		var images []imageindex.Image
		w := &profile.ImageWatcher{
			Watch: func(ctx context.Context, changed func()) error {
				for i := range 50 {
					mu.Lock()
					images = append(images, imageindex.Image{Digest: fmt.Sprintf("sha256:%010x%054x", i, 0)})
					mu.Unlock()
					for range 3 {
						changed()
					}
					facts.Note(func(f *profile.Facts) { f.PullBytesPerSecond += 1 << 20 })
					time.Sleep(200 * time.Millisecond)
				}
				<-ctx.Done()
				return ctx.Err()
			},
			List: func(context.Context) ([]imageindex.Image, error) {
				mu.Lock()
				defer mu.Unlock()
				return slices.Clone(images), nil
			},
			Found: func(found []imageindex.Image) { facts.Update(func(f *profile.Facts) { f.Images = found }) },
			Clock: clock.RealClock{},
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() { _ = p.Start(ctx) }()
		if err := w.Start(ctx); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(writes) != 2 || writes[0] == 0 || writes[1] != 50 {
			t.Errorf("profiles with %v images were written, want two, the first one soon, the last one with 50", writes)
		}
	})
}
