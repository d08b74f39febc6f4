// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/scale/store"
	"github.com/cryopod/cryopod/test/bench/scale/world"
)

const (
	// step is how often nodes report, some at a time.
	step = 200 * time.Millisecond
	// statusEvery is how often a node reports its status though nothing has changed; its Lease tells that it lives.
	statusEvery = 5 * time.Minute
	// lived is how many pods that were created are there before the first of them is deleted again.
	lived = 100
)

// churn has nodes report and pods come and go, until ctx ends, and returns how many pods came.
func churn(ctx context.Context, b *rig.Bed, s *store.Store, o Options) (pods int, err error) {
	var work sync.WaitGroup
	errs := make(chan error, 2)
	work.Go(func() { errs <- ended(ctx, heartbeats(ctx, s, o)) })
	work.Go(func() {
		var err error
		pods, err = replace(ctx, b.Admin, o)
		errs <- ended(ctx, err)
	})
	work.Wait()
	for range cap(errs) {
		if e := <-errs; e != nil {
			err = e
		}
	}
	return pods, err
}

// ended is the error unless it came of the end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// heartbeats has nodes renew their Leases and, less often, report their status.
func heartbeats(ctx context.Context, s *store.Store, o Options) error {
	leases := min(o.Nodes, max(1, int(float64(o.Heartbeats)*step.Seconds())))
	statuses := max(1, int(float64(o.Nodes)*step.Seconds()/statusEvery.Seconds()))
	for turn := 0; ; turn++ {
		next := time.Now().Add(step)
		if err := s.Write(ctx, leases, func(i int) store.Object { return world.Lease((turn*leases + i) % o.Nodes) }); err != nil {
			return err
		}
		if err := s.Write(ctx, statuses, func(i int) store.Object { return world.Node((turn*statuses + i) % o.Nodes) }); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(next)):
		}
	}
}

// replace creates pods by the API server and deletes them again, one in ten opted in.
func replace(ctx context.Context, c client.Client, o Options) (made int, err error) {
	var there []*corev1.Pod
	tick := time.NewTicker(time.Second / time.Duration(o.Pace))
	defer tick.Stop()
	for ; ; made++ {
		pod := world.New(o.Pods + made)
		if err := c.Create(ctx, pod); err != nil {
			return made, fmt.Errorf("creating a pod: %w", err)
		}
		there = append(there, pod)
		if len(there) > lived {
			if err := c.Delete(ctx, there[0], client.GracePeriodSeconds(0)); err != nil {
				return made, fmt.Errorf("deleting a pod: %w", err)
			}
			there = there[1:]
		}
		select {
		case <-ctx.Done():
			return made, nil
		case <-tick.C:
		}
	}
}
