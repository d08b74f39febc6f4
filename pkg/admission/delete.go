// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
	"github.com/cryopod/cryopod/pkg/wish"
)

// schedulerPause is the least time that a scheduler's delete takes that is answered with 429. A scheduler tries at once again, and would
// do nothing else.
const schedulerPause = time.Second

// Delete answers DELETE of pods. Whatever fails on the way lets the deletion through as it came. A DELETE can't be changed by a webhook:
// the saved pod is deleted by the handler itself, in the way that a saved pod is, and the request finds it on its way.
type Delete struct {
	*Keeper
}

var (
	_ admission.Handler = (*Delete)(nil)
	_ source            = (*Delete)(nil)
)

// NewDelete makes the handler.
func NewDelete(k *Keeper) *Delete {
	return &Delete{Keeper: k}
}

// Handle answers one request, after at most Options.Hold, or Options.PreemptionHold. It ends early, with 429, when the context does. A
// deletion of a whole collection calls it once for each pod.
func (h *Delete) Handle(ctx context.Context, req admission.Request) admission.Response {
	start := h.Clock.Now()
	trigger, resp, outcome := h.handle(ctx, req)
	if trigger == v1alpha1.TriggerPreemption && !resp.Allowed {
		h.pause(ctx, start.Add(schedulerPause))
	}
	metrics.CountDeletion(trigger, outcome)
	return resp
}

func (h *Delete) handle(ctx context.Context, req admission.Request) (v1alpha1.Trigger, admission.Response, metrics.EvictionDecision) {
	log := logf.FromContext(ctx)
	del, err := readDeletion(req)
	if err != nil {
		log.Error(err, "Letting a deletion through undecided")
		return "", admission.Allowed(""), metrics.EvictionErrored
	}
	del.Evicting = h.opts.EvictingUsers
	c := h.newCase(del.Pod, "", req)
	c.Delete, c.Removal = del.Options, v1alpha1.RemovalDelete
	why := h.classify(ctx, c, del)
	log.V(1).Info("A pod is deleted", "pod", del.Pod.Name, "by", del.User, "as", c.Trigger, "because", why)
	if c.Trigger == "" {
		return "", admission.Allowed(""), metrics.EvictionUntouched
	}
	resp, outcome := h.answer(ctx, c, h)
	return c.Trigger, resp, outcome
}

// readDeletion reads who deletes what from the request. A collection's request names no pod, but has it as old object all the same.
func readDeletion(req admission.Request) (Deletion, error) {
	d := Deletion{User: req.UserInfo.Username, Pod: &corev1.Pod{}}
	if err := json.Unmarshal(req.OldObject.Raw, d.Pod); err != nil {
		return Deletion{}, fmt.Errorf("decoding the deleted pod %q: %w", req.Name, err)
	}
	if len(req.Options.Raw) > 0 {
		d.Options = &metav1.DeleteOptions{}
		if err := json.Unmarshal(req.Options.Raw, d.Options); err != nil {
			return Deletion{}, fmt.Errorf("decoding the options of the deletion of pod %q: %w", d.Pod.Name, err)
		}
	}
	return d, nil
}

// classify tells what the deletion is, and notes it in the case together with the time that it leaves. The node is read only where it
// matters.
func (h *Delete) classify(ctx context.Context, c *Case, del Deletion) (why string) {
	c.Trigger, why = ActorOf(del)
	switch c.Trigger {
	case "":
		return why
	case v1alpha1.TriggerPreemption:
		c.HoldUntil = c.Now.Add(h.opts.PreemptionHold)
		return why
	case v1alpha1.TriggerDelete:
		if on := wish.On(del.Pod); !on.Has(v1alpha1.TriggerEviction) && !on.Has(v1alpha1.TriggerTermination) {
			return why
		}
	}
	del.Node, del.Ends = h.observeNode(ctx, c)
	c.Trigger, why = ActorOf(del)
	if span, ok := del.given(); ok {
		c.Limit = c.limit(c.Now.Add(span))
	}
	return why
}

// pause waits until the time has come or the request has ended.
func (h *Delete) pause(ctx context.Context, until time.Time) {
	timer := h.Clock.NewTimer(until.Sub(h.Clock.Now()))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C():
	}
}

func (h *Delete) observe(context.Context, *Case) error { return nil }

// saved deletes the pod, which is frozen, with a short grace period. Should that fail, the request does it, with its own.
func (h *Delete) saved(ctx context.Context, c *Case) admission.Response {
	uid := c.Pod.UID
	err := h.Writer.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: c.Pod.Namespace, Name: c.Pod.Name}},
		client.GracePeriodSeconds(releaseGrace), client.Preconditions{UID: &uid})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		logf.FromContext(ctx).Error(err, "Leaving the deletion of a saved pod to the request itself", "pod", c.Pod.Name)
	}
	return admission.Allowed("")
}

func (h *Delete) cold(c *Case, d Decision) {
	if d.Outcome == metrics.EvictionUntouched {
		notCheckpointable(h.Events, c, d.Why)
	} else {
		deletedCold(h.Events, c, d.Why)
	}
}

func (h *Delete) putOff(c *Case, d Decision) string {
	pc := d.Checkpoint
	if pc == nil {
		return "Cannot delete the pod yet: " + d.Why + "; try again"
	}
	goes := "it is deleted as soon as it is saved"
	if match.RemovalOf(pc) != v1alpha1.RemovalDelete {
		// Somebody else asked for this checkpoint, and ends the pod.
		goes = "try again"
	}
	return fmt.Sprintf("The pod is being saved (PodCheckpoint %s is %s); %s, and by %s in any case",
		pc.Name, cmp.Or(pc.Status.Phase, v1alpha1.PhasePending), goes, c.limit(match.DeadlineOf(pc)).UTC().Format(time.RFC3339))
}
