// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/webhook/crowd"
	"github.com/cryopod/cryopod/test/bench/webhook/load"
	"github.com/cryopod/cryopod/test/bench/webhook/program"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// way is one way in which pods are made.
type way struct {
	name string
	// configured is whether the API server knows of the webhooks, optedIn whether the pods are annotated.
	configured, optedIn bool
}

var (
	without = way{name: "without"}
	plain   = way{name: "not_opted_in", configured: true}
	optedIn = way{name: "opted_in", configured: true, optedIn: true}
)

// creation is pods that are made through the API server.
type creation struct {
	bed     *rig.Bed
	program *program.Program
	// off is whether the webhooks are not in effect.
	off bool
}

// run fills in the metrics. The ways take turns, each round in another order.
func (c *creation) run(ctx context.Context, o options, metrics map[string]report.Metric) error {
	say("%.0f pods a second through the API server, %d in each of %d rounds", o.createRate, o.creates, o.rounds)
	ways := []way{without, plain, optedIn}
	for _, w := range ways {
		if _, _, err := c.round(ctx, w, o.createRate, max(o.creates/5, 10)); err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
	}
	var took series
	calls := map[string]float64{}
	for n := range o.rounds {
		for k := range ways {
			w := ways[(n+k)%len(ways)]
			r, called, err := c.round(ctx, w, o.createRate, o.creates)
			if err != nil {
				return err
			}
			took.add(w.name, r.Took)
			calls[w.name] += called
		}
	}
	c.sum(took, calls, float64(o.rounds*o.creates), metrics)
	return nil
}

// sum compares with the creation without Cryopod, round by round: each round's difference is between numbers of the same minute.
func (c *creation) sum(took series, calls map[string]float64, pods float64, metrics map[string]report.Metric) {
	const rival = "without Cryopod's webhooks"
	base := took[without.name]
	for _, w := range []way{plain, optedIn} {
		for name, q := range map[string][2][]float64{
			"p50": {took[w.name].p50, base.p50}, "p99": {took[w.name].p99, base.p99},
		} {
			metrics["create_"+w.name+"_"+name] = median(q[0]).Against(rival, report.Median(q[1]))
			var added []float64
			for n := range q[0] {
				added = append(added, q[0][n]-q[1][n])
			}
			more := median(added)
			if w.optedIn {
				more.Goal = new(float64)
				*more.Goal = 5
			}
			metrics["create_"+w.name+"_added_"+name] = more
		}
		per := report.Metric{Value: calls[w.name] / pods, Unit: "calls of the webhook a pod", Better: "lower"}
		if !w.optedIn {
			per.Goal = new(float64)
		}
		metrics["create_"+w.name+"_calls"] = per
	}
	metrics["create_without_p50"], metrics["create_without_p99"] = median(base.p50), median(base.p99)
}

// round makes pods in one way, and tells how often the webhook was called about them. They are removed afterwards.
func (c *creation) round(ctx context.Context, w way, rate float64, pods int) (r load.Result, calls float64, err error) {
	if err := c.have(ctx, w.configured); err != nil {
		return r, 0, err
	}
	ns, err := crowd.Namespace(ctx, c.bed, "create")
	if err != nil {
		return r, 0, err
	}
	before, err := c.calls(ctx)
	if err != nil {
		return r, 0, err
	}
	made := make([]*corev1.Pod, pods)
	for n := range made {
		made[n] = crowd.Pod(ns, fmt.Sprintf("pod-%d", n), "")
		if !w.optedIn {
			delete(made[n].Annotations, v1alpha1.AnnotationEnabled)
		}
	}
	r, err = load.Run(ctx, load.Plan{Rate: rate, Calls: pods, Call: func(ctx context.Context, n int) error {
		return c.bed.Admin.Create(ctx, made[n])
	}})
	if err != nil {
		return r, 0, err
	}
	if len(r.Errors) > 0 {
		return r, 0, fmt.Errorf("making pods %s: %d failed, the first: %w", w.name, len(r.Errors), r.Errors[0])
	}
	prepared := func(pod *corev1.Pod) bool { return pod.Labels[v1alpha1.LabelEnabled] != "" }
	if n := slices.IndexFunc(made, func(pod *corev1.Pod) bool { return prepared(pod) != w.optedIn }); n >= 0 {
		return r, 0, fmt.Errorf("making pods %s: pod %q was prepared: %v", w.name, made[n].Name, prepared(made[n]))
	}
	after, err := c.calls(ctx)
	if err != nil {
		return r, 0, err
	}
	if err := c.bed.Admin.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(ns), client.GracePeriodSeconds(0)); err != nil {
		return r, 0, fmt.Errorf("removing the pods: %w", err)
	}
	// What the removal leaves to be done is not the next round's.
	time.Sleep(200 * time.Millisecond)
	return r, after - before, nil
}

func (c *creation) have(ctx context.Context, configured bool) error {
	if c.off != configured {
		return nil
	}
	c.off = !configured
	if configured {
		return c.program.Configure(ctx)
	}
	return c.program.Unconfigure(ctx)
}

// calls is how often the webhook was called about pods.
func (c *creation) calls(ctx context.Context) (float64, error) {
	m, err := c.program.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	return m.Sum("controller_runtime_webhook_requests_total", "webhook", admission.PathPod), nil
}
