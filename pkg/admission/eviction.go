// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// Eviction answers CREATE of pods/eviction. Whatever fails on the way lets the eviction through as it came.
type Eviction struct {
	Dependencies
	opts  Options
	holds chan struct{}
}

var _ admission.Handler = (*Eviction)(nil)

// NewEviction makes the handler.
func NewEviction(d Dependencies, o Options) *Eviction {
	o = o.withDefaults()
	return &Eviction{Dependencies: d, opts: o, holds: make(chan struct{}, o.MaxHolds)}
}

// Handle answers one request, after at most Options.Hold. It ends early, with 429, when the context does.
func (h *Eviction) Handle(ctx context.Context, req admission.Request) admission.Response {
	resp, outcome, err := h.answer(ctx, req)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		// Most likely this replica is shutting down; another one answers the next try.
		resp, outcome = tooManyRequests("Cryopod's webhook is shutting down; try again"), metrics.EvictionPutOff
	default:
		logf.FromContext(ctx).Error(err, "Letting an eviction through undecided")
		resp, outcome = admission.Allowed(""), metrics.EvictionErrored
	}
	metrics.CountEviction(outcome)
	return resp
}

func (h *Eviction) answer(ctx context.Context, req admission.Request) (
	admission.Response, metrics.EvictionDecision, error,
) {
	// policy/v1beta1 has the same fields.
	var ev policyv1.Eviction
	if err := json.Unmarshal(req.Object.Raw, &ev); err != nil {
		return admission.Response{}, "", fmt.Errorf("decoding the eviction of pod %q: %w", req.Name, err)
	}
	name := req.Name
	if name == "" {
		name = ev.Name
	}
	var pod corev1.Pod
	err := h.Live.Get(ctx, client.ObjectKey{Namespace: req.Namespace, Name: name}, &pod)
	if apierrors.IsNotFound(err) {
		return admission.Allowed(""), metrics.EvictionUntouched, nil
	}
	if err != nil {
		return admission.Response{}, "", fmt.Errorf("reading pod %q: %w", name, err)
	}
	start := h.Clock.Now()
	c := Case{
		Pod: &pod, Delete: ev.DeleteOptions, DryRun: req.DryRun != nil && *req.DryRun,
		Now: start, HoldUntil: start.Add(h.opts.Hold), PickupTimeout: h.opts.PickupTimeout, MaxAttempts: h.opts.MaxAttempts,
	}
	if inject.Enabled(&pod) && !over(&pod) {
		if err := h.observe(ctx, &c); err != nil {
			return admission.Response{}, "", err
		}
	}
	return h.follow(ctx, &c)
}

// follow carries decisions out until one answers the request.
func (h *Eviction) follow(ctx context.Context, c *Case) (admission.Response, metrics.EvictionDecision, error) {
	var held *hold
	defer func() { held.end() }()
	for {
		c.Now = h.Clock.Now()
		d := Decide(*c)
		switch d.Action {
		case Begin:
			back, err := h.begin(ctx, c, d)
			if err != nil {
				d = cold(*c, metrics.EvictionCold, "its PodCheckpoint could not be made: "+err.Error())
				return h.allow(c.Pod, d), d.Outcome, nil
			}
			if back != nil {
				return putOff(*back), back.Outcome, nil
			}
		case GiveUp:
			if err := h.giveUp(ctx, c, d); err != nil {
				d = cold(*c, metrics.EvictionCold, d.Why)
				return h.allow(c.Pod, d), d.Outcome, nil
			}
		case Wait:
			key := client.ObjectKeyFromObject(d.Checkpoint)
			switch {
			case held == nil:
				held = h.hold(key)
			case held.watch(key):
			case !held.wait(ctx, d.Until):
				return putOff(d), metrics.EvictionPutOff, nil
			}
			if err := h.refresh(ctx, c, d.Checkpoint); err != nil || held == nil {
				c.HoldUntil = c.Now
			}
		case PutOff:
			return putOff(d), d.Outcome, nil
		case AllowSaved:
			resp := admission.Allowed("")
			resp.Patches = releasePatch(c.Delete, c.Pod.UID)
			return resp, d.Outcome, nil
		case Allow:
			return h.allow(c.Pod, d), d.Outcome, nil
		default:
			return admission.Response{}, "", fmt.Errorf("evicting pod %q: unknown action %q", c.Pod.Name, d.Action)
		}
	}
}

// allow lets the eviction through as it came, and tells why where the pod's owner expected a checkpoint.
func (h *Eviction) allow(pod *corev1.Pod, d Decision) admission.Response {
	resp := admission.Allowed("")
	if d.Why == "" {
		return resp
	}
	if d.Outcome == metrics.EvictionUntouched {
		notCheckpointable(h.Events, pod, d.Why)
	} else {
		evictedCold(h.Events, pod, d.Why)
	}
	return resp.WithWarnings(fmt.Sprintf("pod %s/%s goes without a checkpoint: %s", pod.Namespace, pod.Name, cut(d.Why)))
}

// putOff answers with the words that the descheduler looks for, where a checkpoint is under way.
func putOff(d Decision) admission.Response {
	pc := d.Checkpoint
	if pc == nil {
		return tooManyRequests("Cannot evict the pod yet: " + d.Why + "; try again")
	}
	return tooManyRequests(fmt.Sprintf(
		"Eviction triggered evacuation: the pod is being saved (PodCheckpoint %s is %s); try again, it goes by %s, with its checkpoint or without",
		pc.Name, cmp.Or(pc.Status.Phase, v1alpha1.PhasePending), deadlineOf(pc).UTC().Format(time.RFC3339)))
}

// tooManyRequests is what drains take as «not yet»: code and reason of 429, and no retryAfterSeconds, which would make client-go
// retry inside the call.
func tooManyRequests(message string) admission.Response {
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests, Message: message,
	}}}
}
