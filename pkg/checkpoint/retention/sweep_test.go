// SPDX-License-Identifier: Apache-2.0

package retention_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/retention"
	"github.com/cryopod/cryopod/pkg/image"
)

func (w *world) sweeper() *retention.Sweeper {
	return &retention.Sweeper{Client: w.client, Live: w.client, Images: w.images, Clock: w.clock, Every: time.Hour}
}

func TestOurs(t *testing.T) {
	ours := image.Stored{Container: "app", Namespace: "shop", Cluster: "this"}
	for name, tc := range map[string]struct {
		tag     string
		change  func(*image.Stored)
		cluster string
		want    bool
	}{
		"ours":                   {tag: "a.app", cluster: "this", want: true},
		"not of our form":        {tag: "latest", cluster: "this"},
		"of another container":   {tag: "a.web", cluster: "this"},
		"of another cluster":     {tag: "a.app", cluster: "this", change: func(s *image.Stored) { s.Cluster = "other" }},
		"of no cluster":          {tag: "a.app", cluster: "this", change: func(s *image.Stored) { s.Cluster = "" }},
		"the cluster is unknown": {tag: "a.app", change: func(s *image.Stored) { s.Cluster = "" }},
		"of another namespace":   {tag: "a.app", cluster: "this", change: func(s *image.Stored) { s.Namespace = "bank" }},
		"of somebody else":       {tag: "a.app", cluster: "this", change: func(s *image.Stored) { *s = image.Stored{} }},
	} {
		stored := ours
		if tc.change != nil {
			tc.change(&stored)
		}
		if got := retention.Ours(tc.tag, &stored, "shop", tc.cluster); got != tc.want {
			t.Errorf("%s: Ours = %v, want %v", name, got, tc.want)
		}
	}
}

func TestAbandoned(t *testing.T) {
	now := start.Add(24 * time.Hour)
	for name, tc := range map[string]struct {
		created, since time.Time
		want           bool
	}{
		"young, seen first":            {created: now.Add(-59 * time.Minute)},
		"old, seen first":              {created: now.Add(-time.Hour), want: true},
		"young, seen an hour ago":      {created: now.Add(-time.Minute), since: now.Add(-time.Hour), want: true},
		"young, seen a moment ago":     {created: now.Add(-time.Minute), since: now.Add(-5 * time.Minute)},
		"of unknown age, seen first":   {},
		"of unknown age, seen before":  {since: now.Add(-time.Hour), want: true},
		"made in the future by a node": {created: now.Add(time.Hour)},
	} {
		if got := retention.Abandoned(&image.Stored{Created: tc.created}, tc.since, time.Hour, now); got != tc.want {
			t.Errorf("%s: Abandoned = %v, want %v", name, got, tc.want)
		}
	}
}

// TestSweep searches a registry that has everything.
func TestSweep(t *testing.T) {
	ready := ptrTo(checkpoint("ready", v1alpha1.PhaseReady, 0))
	w := newWorld(t, system(), namespace("shop", nil), namespace("bank", nil), ready)
	w.registry.catalog = true
	old, young := start.Add(-2*time.Hour), start.Add(-time.Minute)
	named := image.Tag(prefix, "shop", "ready", "app")
	side := image.Tag(prefix, "shop", "ready", "side")
	w.registry.images[side] = w.registry.images[named]
	w.push("shop", "old", old)
	w.push("bank", "old", old)
	w.push("deleted-namespace", "old", old)
	fresh := w.push("shop", "young", young)
	foreign := map[string]image.Stored{
		prefix + "/shop:latest":            {Created: old, Container: "latest", Namespace: "shop", Cluster: "this"},
		prefix + "/shop:other-cluster.app": {Created: old, Container: "app", Namespace: "shop", Cluster: "that"},
		prefix + "/shop:somebodys.app":     {Created: old},
		prefix + "/Not_a_namespace:x.app":  {Created: old, Container: "app", Namespace: "Not_a_namespace", Cluster: "this"},
	}
	for ref, stored := range foreign {
		w.registry.images[ref] = stored
	}
	s := w.sweeper()
	w.sweep(t, s)
	all := []string{
		prefix + "/Not_a_namespace:x.app", prefix + "/shop:latest", prefix + "/shop:other-cluster.app", named, side, prefix + "/shop:somebodys.app", fresh,
	}
	if diff := cmp.Diff(all, w.left()); diff != "" {
		t.Errorf("after the first sweep (-want +got):\n%s", diff)
	}
	w.clock.Step(30 * time.Minute)
	w.sweep(t, s)
	if diff := cmp.Diff(all, w.left()); diff != "" {
		t.Errorf("after a sweep too soon (-want +got):\n%s", diff)
	}
	w.clock.Step(30 * time.Minute)
	w.sweep(t, s)
	if diff := cmp.Diff(all[:len(all)-1], w.left()); diff != "" {
		t.Errorf("after an hour (-want +got):\n%s", diff)
	}
}

func (w *world) sweep(t *testing.T, s *retention.Sweeper) {
	t.Helper()
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestSweepAsksTheServer has a cache that is behind, and a PodCheckpoint that comes with its image between a list and the next.
func TestSweepAsksTheServer(t *testing.T) {
	behind := newWorld(t, system(), namespace("shop", nil))
	w := newWorld(t, ptrTo(checkpoint("new", v1alpha1.PhaseReady, 0)))
	w.clock.Step(10 * time.Hour)
	s := w.sweeper()
	s.Client = behind.client
	w.registry.listed = func() {
		w.registry.listed = nil
		pc := ptrTo(checkpoint("newer", v1alpha1.PhaseReady, 0))
		if err := w.client.Create(t.Context(), pc); err != nil {
			t.Fatal(err)
		}
		w.push("shop", "newer", start)
	}
	w.sweep(t, s)
	w.clock.Step(time.Hour)
	w.sweep(t, s)
	if len(w.registry.deleted) != 0 {
		t.Errorf("deleted %q, want nothing", w.registry.deleted)
	}
}

// TestSweepRemembersNamespaces deletes a namespace of a registry that does not list its repositories.
func TestSweepRemembersNamespaces(t *testing.T) {
	shopNamespace := namespace("shop", nil)
	pc := ptrTo(checkpoint("a", v1alpha1.PhaseReady, 0))
	w := newWorld(t, system(), shopNamespace, pc)
	if _, err := w.reconciler(hourly).Reconcile(t.Context(), shop); err != nil {
		t.Fatal(err)
	}
	for _, o := range []client.Object{pc, shopNamespace} {
		if err := w.client.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	w.clock.Step(2 * time.Hour)
	w.sweep(t, w.sweeper())
	if diff := cmp.Diff([]string{"reg.test/x/shop:a.app"}, w.registry.deleted); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
}

func TestSweepFailures(t *testing.T) {
	w := newWorld(t, system(), namespace("shop", nil))
	old := w.push("shop", "old", start)
	s := w.sweeper()
	w.clock.Step(time.Hour)
	w.registry.failure = errAway
	if err := s.Sweep(t.Context()); err == nil {
		t.Error("a registry that is away is no error")
	}
	w.registry.failure, w.registry.refusal = nil, image.ErrDeleteUnsupported
	for range 2 {
		w.sweep(t, s)
	}
	if n := len(w.events.Lines()); n != 1 {
		t.Errorf("%d events for a registry that does not delete, want 1", n)
	}
	w.registry.refusal = nil
	w.clock.Step(time.Hour)
	w.sweep(t, s)
	if diff := cmp.Diff([]string{old}, w.registry.deleted); diff != "" {
		t.Errorf("deleted at last (-want +got):\n%s", diff)
	}
	if err := newWorld(t).sweeper().Sweep(t.Context()); err == nil {
		t.Error("a cluster that can't be told from others is no error")
	}
}

// TestSweepGoesOn has a repository that can't be listed and an image that can't be read before those that matter.
func TestSweepGoesOn(t *testing.T) {
	w := newWorld(t, system(), namespace("bank", nil), namespace("shop", nil))
	old := w.push("shop", "old", start)
	w.registry.unreadable = w.push("shop", "broken", start)
	w.registry.unlisted = image.Repository(prefix, "bank")
	w.clock.Step(time.Hour)
	if err := w.sweeper().Sweep(t.Context()); err == nil {
		t.Error("the repository that can't be listed is no error")
	}
	if diff := cmp.Diff([]string{old}, w.registry.deleted); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
}

// TestStart sweeps at once and every hour, and five minutes after a failure.
func TestStart(t *testing.T) {
	w := newWorld(t, system())
	sweeps, failures := make(chan struct{}), make(chan error, 1)
	w.registry.listed = func() {
		sweeps <- struct{}{}
		w.registry.failure = <-failures
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	s := w.sweeper()
	go func() { over <- s.Start(ctx) }()
	for _, step := range []struct {
		after   time.Duration
		failure error
	}{{after: 0}, {after: time.Hour, failure: errAway}, {after: 5 * time.Minute}, {after: time.Hour}} {
		for step.after > 0 && !w.clock.HasWaiters() {
			runtime.Gosched()
		}
		w.clock.Step(step.after)
		<-sweeps
		failures <- step.failure
	}
	for !w.clock.HasWaiters() {
		runtime.Gosched()
	}
	cancel()
	if err := <-over; err != nil {
		t.Errorf("Start = %v", err)
	}
	if !s.NeedLeaderElection() {
		t.Error("every replica would sweep")
	}
}
