// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// Eviction answers CREATE of pods/eviction. Whatever fails on the way lets the eviction through as it came.
type Eviction struct {
	*Keeper
}

var (
	_ admission.Handler = (*Eviction)(nil)
	_ source            = (*Eviction)(nil)
)

// anyVersion has the API server answer from its cache, see "Resource versions" in the documentation of the Kubernetes API.
var anyVersion = &client.GetOptions{Raw: &metav1.GetOptions{ResourceVersion: "0"}}

// NewEviction makes the handler.
func NewEviction(k *Keeper) *Eviction {
	return &Eviction{Keeper: k}
}

// Handle answers one request, after at most Options.Hold. It ends early, with 429, when the context does.
func (h *Eviction) Handle(ctx context.Context, req admission.Request) admission.Response {
	resp, outcome := h.handle(ctx, req)
	metrics.CountEviction(outcome)
	return resp
}

func (h *Eviction) handle(ctx context.Context, req admission.Request) (admission.Response, metrics.EvictionDecision) {
	c, err := h.read(ctx, req)
	switch {
	case err != nil && ctx.Err() != nil:
		return shuttingDown()
	case err != nil:
		logf.FromContext(ctx).Error(err, "Letting an eviction through undecided")
		return admission.Allowed(""), metrics.EvictionErrored
	case c == nil:
		return admission.Allowed(""), metrics.EvictionUntouched
	}
	return h.answer(ctx, c, h)
}

// read is the case of the request, nil when its pod is gone.
func (h *Eviction) read(ctx context.Context, req admission.Request) (*Case, error) {
	// policy/v1beta1 has the same fields.
	var ev policyv1.Eviction
	if err := json.Unmarshal(req.Object.Raw, &ev); err != nil {
		return nil, fmt.Errorf("decoding the eviction of pod %q: %w", req.Name, err)
	}
	pod, err := h.evicted(ctx, client.ObjectKey{Namespace: req.Namespace, Name: cmp.Or(req.Name, ev.Name)})
	if err != nil || pod == nil {
		return nil, err
	}
	c := h.newCase(pod, v1alpha1.TriggerEviction, req)
	c.Delete = ev.DeleteOptions
	c.Told = req.UserInfo.Username == userOwnWebhook && ev.Annotations[v1alpha1.AnnotationTold] == "true"
	return c, nil
}

// evicted reads the pod, nil when it is gone. Most evictions are of pods that nobody opted in: those cost a look into the API server's own cache,
// and none at its storage. It may be behind by some milliseconds, so that only what it says of a pod that is there and not opted in counts.
func (h *Eviction) evicted(ctx context.Context, key client.ObjectKey) (*corev1.Pod, error) {
	t := &turn{all: h.turns}
	if !t.take(ctx) {
		return nil, ctx.Err()
	}
	defer t.give()
	pod := &corev1.Pod{}
	if err := h.Cached.Get(ctx, key, &corev1.Pod{}); err != nil {
		if err := h.Live.Get(ctx, key, pod, anyVersion); err == nil && !inject.Enabled(pod) {
			return pod, nil
		}
		pod = &corev1.Pod{}
	}
	if err := h.Live.Get(ctx, key, pod); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading pod %q: %w", key.Name, err)
	}
	return pod, nil
}

func (h *Eviction) observe(ctx context.Context, c *Case) error {
	if err := h.observeBudgets(ctx, c); err != nil {
		return err
	}
	h.observeNode(ctx, c)
	return nil
}

func (h *Eviction) saved(_ context.Context, c *Case) admission.Response {
	resp := admission.Allowed("")
	resp.Patches = releasePatch(c.Delete, c.Pod.UID)
	return resp
}

// cold says nothing where the controller that evicts does.
func (h *Eviction) cold(c *Case, d Decision) {
	if c.Told {
		return
	}
	if d.Outcome == metrics.EvictionUntouched {
		notCheckpointable(h.Events, c, d.Why)
	} else {
		evictedCold(h.Events, c.Pod, d.Why)
	}
}

// putOff has the words that the descheduler looks for, where a checkpoint is under way.
func (h *Eviction) putOff(c *Case, d Decision) string {
	pc := d.Checkpoint
	if pc == nil {
		return "Cannot evict the pod yet: " + d.Why + "; try again"
	}
	goes := c.limit(match.DeadlineOf(pc)).UTC().Format(time.RFC3339)
	if d.Why != "" {
		return fmt.Sprintf(
			"Eviction triggered evacuation: the pod could not be saved (PodCheckpoint %s: %s); try again, it goes by %s, with a checkpoint or without",
			pc.Name, cut(d.Why), goes)
	}
	return fmt.Sprintf(
		"Eviction triggered evacuation: the pod is being saved (PodCheckpoint %s is %s); try again, it goes by %s, with its checkpoint or without",
		pc.Name, cmp.Or(pc.Status.Phase, v1alpha1.PhasePending), goes)
}
