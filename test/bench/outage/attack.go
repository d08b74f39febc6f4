// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/bench/outage/fleet"
	"github.com/cryopod/cryopod/test/bench/outage/load"
	"github.com/cryopod/cryopod/test/bench/outage/service"
	"github.com/cryopod/cryopod/test/bench/rig"
)

// once labels the namespace whose pods are asked about once only.
const once = "bench-once"

// Options say how hard the attack is.
type Options struct {
	Duration  time.Duration
	Rate      int
	Replicas  int
	Every     time.Duration
	Rotations int
	Lag       time.Duration
	Probe     time.Duration
	Delay     time.Duration
}

// Result is what was seen.
type Result struct {
	Options
	Kills, Terminations, Rotated int

	Counts    map[string]load.Count
	Failed    []error
	Errors    []error
	Wrong     []string
	Failures  map[service.Cause]int
	Starts    []time.Duration
	EndErrors []error
	Refused   []string
	Forbidden []string

	// FailOpen counts the calls that the API server passed over, by the webhook's name; Rejected those that it took for a refusal.
	FailOpen map[string]float64
	Rejected float64
}

// Attack does it all.
func Attack(ctx context.Context, o Options) (r *Result, err error) {
	b, err := rig.New(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	program, err := b.Build(ctx, "webhook")
	if err != nil {
		return nil, err
	}
	s, err := service.New(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := prepare(ctx, b, s.Port()); err != nil {
		return nil, err
	}
	f, err := fleet.Start(ctx, b, s, fleet.Options{Program: program, Replicas: o.Replicas, Lag: o.Lag, Probe: o.Probe, Delay: o.Delay})
	if err != nil {
		return nil, err
	}
	defer f.Stop()
	l := load.New(b.Admin, load.Namespaces{Usual: "bench", Once: once})
	if err := awaitAnswers(ctx, b.Admin); err != nil {
		return nil, err
	}
	return attack(ctx, o, b, s, f, l)
}

func attack(ctx context.Context, o Options, b *rig.Bed, s *service.Service, f *fleet.Fleet, l *load.Load) (*Result, error) {
	r := &Result{Options: o}
	before, err := b.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	failuresBefore := s.Failures()
	attacking, end := context.WithTimeout(ctx, o.Duration)
	defer end()
	attacks := make(chan error, 2)
	go func() { attacks <- r.end(attacking, f) }()
	go func() { attacks <- r.rotate(attacking, b.Admin) }()
	claimed := make(chan struct{})
	go func() {
		l.Claims(ctx, 500*time.Millisecond, o.Duration)
		close(claimed)
	}()
	l.Run(ctx, o.Rate, o.Duration)
	<-claimed
	end()
	if err := errors.Join(<-attacks, <-attacks); err != nil {
		return nil, err
	}
	f.Stop()
	if err := s.Close(); err != nil {
		return nil, fmt.Errorf("closing the Service: %w", err)
	}
	s.Wait()
	after, err := b.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	r.Counts, r.Failed, r.Wrong = l.Counts(), l.Failed(), l.Wrong()
	r.Errors = l.Errors()
	r.Failures = s.Failures()
	for cause, n := range failuresBefore {
		r.Failures[cause] -= n
	}
	r.Starts, r.EndErrors, r.Refused, r.Forbidden = f.Starts(), f.Errors(), f.Refused(), f.Forbidden()
	r.FailOpen = map[string]float64{}
	const failOpen, rejected = "apiserver_admission_webhook_fail_open_count", "apiserver_admission_webhook_rejection_count"
	for _, series := range after[failOpen] {
		name := series.Labels["name"]
		r.FailOpen[name] += series.Value - before.Sum(failOpen, "name", name)
	}
	r.Rejected = after.Sum(rejected) - before.Sum(rejected)
	return r, nil
}

// end ends a replica again and again, by turns with SIGKILL and SIGTERM.
func (r *Result) end(ctx context.Context, f *fleet.Fleet) error {
	for next := time.Now(); ; {
		next = next.Add(r.Every)
		if !sleep(ctx, time.Until(next)) {
			return nil
		}
		var err error
		if r.Kills <= r.Terminations {
			if err = f.Kill(ctx); err == nil {
				r.Kills++
			}
		} else if err = f.Terminate(ctx); err == nil {
			r.Terminations++
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
	}
}

// rotate renews the certificate as people do by hand: by emptying the Secret.
func (r *Result) rotate(ctx context.Context, c client.Client) error {
	empty := client.RawPatch(types.MergePatchType, []byte(`{"data":null}`))
	for next := time.Now(); r.Rotated < r.Rotations; {
		next = next.Add(r.Duration / time.Duration(r.Rotations+1))
		if !sleep(ctx, time.Until(next)) {
			return nil
		}
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: "cryopod-webhook-tls"}}
		if err := c.Patch(ctx, secret, empty); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("emptying the Secret: %w", err)
		}
		r.Rotated++
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// prepare puts the balancer in the place of the Service, and makes the namespaces.
func prepare(ctx context.Context, b *rig.Bed, port int) error {
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "bench"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: once, Labels: map[string]string{once: "true"}}},
	} {
		if err := b.Admin.Create(ctx, o); err != nil {
			return fmt.Errorf("making %T %q: %w", o, o.GetName(), err)
		}
	}
	err := b.Route(ctx, port, func(w *admissionregistrationv1.MutatingWebhook) {
		if strings.Contains(w.Name, "-again.") {
			w.NamespaceSelector.MatchExpressions = append(w.NamespaceSelector.MatchExpressions,
				metav1.LabelSelectorRequirement{Key: once, Operator: metav1.LabelSelectorOpDoesNotExist})
		}
	})
	return errors.Join(err, b.PretendScheduler(ctx))
}

// awaitAnswers waits until the API server calls the webhook.
func awaitAnswers(ctx context.Context, c client.Client) error {
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(100 * time.Millisecond) {
		pod := load.Pod(load.Once, once)
		if err := c.Create(ctx, pod, client.DryRunAll); err != nil {
			return fmt.Errorf("trying a pod: %w", err)
		}
		if len(pod.Spec.Tolerations) > 2 && pod.Spec.SchedulerName != corev1.DefaultSchedulerName {
			return nil
		}
	}
	return errors.New("the API server does not call the webhook within a minute, or the webhook does not see the scheduler's Lease")
}
