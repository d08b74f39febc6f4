// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/admission/fresh"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// Keeper holds requests that pods go until the pods are saved, whatever the form of the requests. Its handlers share the requests that
// may be held at a time. It may be used from many goroutines at once.
type Keeper struct {
	Dependencies
	opts  Options
	holds chan struct{}
	turns chan struct{}
	// What the requests about the pods of one node, or of one namespace, have in common. Nil nodes and profiles are gone.
	nodes    *fresh.Reader[string, *corev1.Node]
	profiles *fresh.Reader[string, *v1alpha1.NodeProfile]
	budgets  *fresh.Reader[string, []policyv1.PodDisruptionBudget]
}

// NewKeeper makes the keeper.
func NewKeeper(d Dependencies, o Options) *Keeper {
	o = o.withDefaults()
	return &Keeper{
		Dependencies: d, opts: o, holds: make(chan struct{}, o.MaxHolds), turns: make(chan struct{}, maxTurns),
		nodes: fresh.NewReader(d.readNode), profiles: fresh.NewReader(d.readProfile), budgets: fresh.NewReader(d.readBudgets),
	}
}

// source is a form in which requests that pods go arrive: how such a request ends its pod, and in which words it is answered.
type source interface {
	// observe fills in what only requests of this form depend on.
	observe(ctx context.Context, c *Case) error
	// saved ends the pod of the case, which is saved, or has the request end it.
	saved(ctx context.Context, c *Case) admission.Response
	// cold tells why the pod goes without a checkpoint, where its owner expected one.
	cold(c *Case, d Decision)
	// putOff is what the client is told that has to come again.
	putOff(c *Case, d Decision) string
}

// answer decides about the request, carries the decisions out until one answers it, and says how it is counted. Whatever fails on the
// way lets the request through as it came; when the context ends early, it is answered with 429.
func (k *Keeper) answer(ctx context.Context, c *Case, s source) (admission.Response, metrics.EvictionDecision) {
	t := &turn{all: k.turns}
	if !t.take(ctx) {
		return shuttingDown()
	}
	defer t.give()
	resp, outcome, err := k.decide(ctx, c, s, t)
	switch {
	case err == nil:
		return resp, outcome
	case ctx.Err() != nil:
		return shuttingDown()
	}
	logf.FromContext(ctx).Error(err, "Letting a request that a pod go through undecided")
	return admission.Allowed(""), metrics.EvictionErrored
}

func (k *Keeper) decide(ctx context.Context, c *Case, s source, t *turn) (admission.Response, metrics.EvictionDecision, error) {
	if inject.Enabled(c.Pod) && !over(c.Pod) && !c.DryRun {
		if err := k.observe(ctx, c, s); err != nil {
			return admission.Response{}, "", err
		}
	}
	return k.follow(ctx, c, s, t)
}

// follow carries decisions out until one answers the request. While it is held, others have its turn.
func (k *Keeper) follow(ctx context.Context, c *Case, s source, t *turn) (admission.Response, metrics.EvictionDecision, error) {
	var held *hold
	defer func() { held.end() }()
	for {
		c.Now = k.Clock.Now()
		d := Decide(*c)
		switch d.Action {
		case Begin:
			back, err := k.begin(ctx, c, d)
			if err != nil {
				d = cold(*c, metrics.EvictionCold, "its PodCheckpoint could not be made: "+err.Error())
				return allow(s, c, d), d.Outcome, nil
			}
			if back != nil {
				return tooManyRequests(s.putOff(c, *back)), back.Outcome, nil
			}
		case GiveUp:
			if err := k.giveUp(ctx, c, d); err != nil {
				d = cold(*c, metrics.EvictionCold, d.Why)
				return allow(s, c, d), d.Outcome, nil
			}
		case Wait:
			k.askRemoval(ctx, c, d.Checkpoint)
			key := client.ObjectKeyFromObject(d.Checkpoint)
			woken := notYet
			switch {
			case held == nil:
				held = k.hold(key)
			case held.watch(key):
			default:
				t.give()
				woken = held.wait(ctx, d.Until)
				if !t.take(ctx) {
					woken = byEnd
				}
			}
			switch {
			case woken == byEnd:
				return tooManyRequests(s.putOff(c, d)), metrics.EvictionPutOff, nil
			case woken == byChange && k.goesOn(ctx, c, d.Checkpoint):
				continue
			}
			if err := k.refresh(ctx, c, d.Checkpoint); err != nil || held == nil {
				c.HoldUntil = c.Now
			}
		case PutOff:
			d.Checkpoint = k.askRemoval(ctx, c, d.Checkpoint)
			return tooManyRequests(s.putOff(c, d)), d.Outcome, nil
		case AllowSaved:
			return s.saved(ctx, c), d.Outcome, nil
		case Allow:
			return allow(s, c, d), d.Outcome, nil
		default:
			return admission.Response{}, "", fmt.Errorf("deciding about pod %q: unknown action %q", c.Pod.Name, d.Action)
		}
	}
}

// newCase is the request as it begins, before anything about it was looked up.
func (k *Keeper) newCase(pod *corev1.Pod, trigger v1alpha1.Trigger, req admission.Request) *Case {
	start := k.Clock.Now()
	// It stays in memory for as long as the request is held, and is never written.
	pod.ManagedFields = nil
	return &Case{
		Pod: pod, Trigger: trigger, Removal: v1alpha1.RemovalNone, DryRun: req.DryRun != nil && *req.DryRun,
		Now: start, HoldUntil: start.Add(k.opts.Hold), PickupTimeout: k.opts.PickupTimeout, MaxAttempts: k.opts.MaxAttempts,
	}
}

// allow lets the request through as it came, and tells why where the pod's owner expected a checkpoint.
func allow(s source, c *Case, d Decision) admission.Response {
	resp := admission.Allowed("")
	if d.Why == "" {
		return resp
	}
	s.cold(c, d)
	return resp.WithWarnings(fmt.Sprintf("pod %s/%s goes without a checkpoint: %s", c.Pod.Namespace, c.Pod.Name, cut(d.Why)))
}

// shuttingDown is the answer when the request's context ends early: most likely this replica ends; another one answers the next try.
func shuttingDown() (admission.Response, metrics.EvictionDecision) {
	return tooManyRequests("Cryopod's webhook is shutting down; try again"), metrics.EvictionPutOff
}

// tooManyRequests is what drains take as «not yet»: code and reason of 429, and no retryAfterSeconds, which would make client-go
// retry inside the call.
func tooManyRequests(message string) admission.Response {
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests, Message: message,
	}}}
}
