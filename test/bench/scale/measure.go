// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/apiserver"
	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/scale/store"
	"github.com/cryopod/cryopod/test/bench/scale/world"
	"github.com/cryopod/cryopod/test/e2e/report"
)

const (
	// calm is how long programs have to be idle, and how much of a core that is, to count as settled; at most for patience.
	calm     = 3 * time.Second
	idle     = 0.05
	patience = 90 * time.Second

	mib = 1 << 20
)

type measurement struct {
	Options
	bed     *rig.Bed
	crew    *crew
	store   *store.Store
	metrics map[string]report.Metric
}

func newMeasurement(ctx context.Context, o Options) (*measurement, error) {
	b, err := rig.New(ctx)
	if err != nil {
		return nil, err
	}
	m := &measurement{Options: o, bed: b, store: store.New(b.Etcd(), apiserver.Scheme()), metrics: map[string]report.Metric{}}
	if m.crew, err = newCrew(ctx, b, o.Webhook); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: world.Namespace}}
	if err := client.IgnoreAlreadyExists(b.Admin.Create(ctx, ns)); err != nil {
		return nil, errors.Join(fmt.Errorf("making the namespace: %w", err), b.Close())
	}
	return m, nil
}

func (m *measurement) close() error {
	return errors.Join(m.crew.stop(), m.crew.service.Close(), m.bed.Close())
}

// all measures everything. The programs start anew in the large cluster: what they take to read it all is part of what they take.
func (m *measurement) all(ctx context.Context) error {
	m.say("an empty cluster")
	if err := errors.Join(m.node(ctx), m.crew.start(ctx)); err != nil {
		return err
	}
	if err := errors.Join(m.measure(ctx, "rest"), m.crew.stop()); err != nil {
		return err
	}
	m.say(fmt.Sprintf("%d nodes, %d pods", m.Nodes, m.Pods))
	if err := m.populate(ctx); err != nil {
		return err
	}
	if err := m.crew.start(ctx); err != nil {
		return err
	}
	for _, p := range m.crew.programs {
		m.put("large_ready_after_"+p.name, p.readyAfter.Seconds(), "s")
	}
	if err := m.measure(ctx, "large"); err != nil {
		return err
	}
	m.say(fmt.Sprintf("%d heartbeats and %d pods a second", m.Heartbeats, m.Pace))
	churning, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	pods := 0
	go func() {
		var err error
		pods, err = churn(churning, m.bed, m.store, m.Options)
		done <- err
	}()
	err := m.measure(ctx, "churn")
	end()
	err = errors.Join(err, <-done)
	m.put("churn_pods_made", float64(pods), "pods")
	return err
}

func (m *measurement) say(what string) { fmt.Fprintln(os.Stderr, "bench-scale:", what) }

// node makes the one node that the agent is of.
func (m *measurement) node(ctx context.Context) error {
	return m.store.Write(ctx, 1, func(int) store.Object { return world.Node(0) })
}

func (m *measurement) populate(ctx context.Context) error {
	began := time.Now()
	for _, kind := range []struct {
		count int
		make  func(i int) store.Object
	}{
		{m.Nodes, world.Node},
		{m.Nodes, world.Lease},
		{m.Nodes, world.Profile},
		{m.Pods, func(i int) store.Object { return world.Pod(i, m.Nodes) }},
		{m.Checkpoints, func(i int) store.Object { return world.Checkpoint(i, m.Nodes) }},
	} {
		if err := m.store.Write(ctx, kind.count, kind.make); err != nil {
			return err
		}
	}
	m.put("populate", time.Since(began).Seconds(), "s")
	return nil
}

func (m *measurement) put(name string, value float64, unit string) {
	m.metrics[name] = report.Metric{Value: value, Unit: unit, Better: "lower"}
}

// measure waits until the programs have settled, unless things are moving, and measures them for the window.
func (m *measurement) measure(ctx context.Context, when string) error {
	if when != "churn" {
		m.settle(ctx)
	}
	before, err := m.usages()
	if err != nil {
		return err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(m.Window):
	}
	after, err := m.usages()
	if err != nil {
		return err
	}
	minutes := time.Since(began).Minutes()
	for name, u := range after {
		m.put(when+"_rss_"+name, u.Resident/mib, "MiB")
		m.put(when+"_peak_rss_"+name, u.Peak/mib, "MiB")
		m.put(when+"_cpu_"+name, (u.CPU-before[name].CPU).Seconds()/minutes, "s/min")
	}
	for _, p := range m.crew.programs {
		metrics, err := rig.ReadMetrics(ctx, p.metrics)
		if err != nil {
			return fmt.Errorf("measuring %q: %w", p.name, err)
		}
		m.put(when+"_heap_"+p.name, metrics.Sum("go_memstats_heap_inuse_bytes")/mib, "MiB")
	}
	return nil
}

// usages are those of all programs, of the API server and of etcd.
func (m *measurement) usages() (map[string]rig.Usage, error) {
	pids := map[string]int{"kube_apiserver": rig.Child("kube-apiserver"), "etcd": rig.Child("etcd")}
	for _, p := range m.crew.programs {
		pids[p.name] = p.PID()
	}
	all := map[string]rig.Usage{}
	for name, pid := range pids {
		u, err := rig.ReadUsage(pid)
		if err != nil {
			return nil, fmt.Errorf("measuring %q: %w", name, err)
		}
		all[name] = u
	}
	return all, nil
}

// settle waits until no program is busy.
func (m *measurement) settle(ctx context.Context) {
	for began := time.Now(); time.Since(began) < patience && ctx.Err() == nil; {
		before, err := m.usages()
		time.Sleep(calm)
		after, err2 := m.usages()
		if err != nil || err2 != nil {
			return
		}
		busy := false
		for _, p := range m.crew.programs {
			busy = busy || (after[p.name].CPU-before[p.name].CPU).Seconds() > idle*calm.Seconds()
		}
		if !busy {
			return
		}
	}
}
