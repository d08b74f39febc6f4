// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
	"github.com/cryopod/cryopod/pkg/wish"
)

// PodCreate answers CREATE of pods. Whatever fails on the way lets the pod through as it came.
type PodCreate struct {
	Dependencies
	opts     Options
	newID    func() string
	passings passings
}

var _ admission.Handler = (*PodCreate)(nil)

// NewPodCreate makes the handler. The function newID gives claims their IDs; they must not be guessable.
func NewPodCreate(d Dependencies, o Options, newID func() string) *PodCreate {
	return &PodCreate{Dependencies: d, opts: o.withDefaults(), newID: newID}
}

// Handle answers one request. A dry run claims nothing.
func (h *PodCreate) Handle(ctx context.Context, req admission.Request) admission.Response {
	var pod corev1.Pod
	if err := json.Unmarshal(req.Object.Raw, &pod); err != nil {
		logf.FromContext(ctx).Error(err, "Letting a pod through that can't be decoded")
		metrics.CountPod(metrics.PodErrored)
		return admission.Allowed("")
	}
	if pod.Namespace == "" {
		pod.Namespace = req.Namespace
	}
	out, outcome, warnings := h.mutate(ctx, &pod, creation{
		user: req.UserInfo, request: string(req.UID), dryRun: req.DryRun != nil && *req.DryRun,
	})
	patches, err := podPatch(&pod, out)
	if err != nil {
		logf.FromContext(ctx).Error(err, "Letting a pod through without its changes")
		metrics.CountPod(metrics.PodErrored)
		return admission.Allowed("")
	}
	if inject.Enabled(&pod) {
		metrics.CountPod(outcome)
	}
	resp := admission.Allowed("")
	resp.Patches = patches
	return resp.WithWarnings(warnings...)
}

func (h *PodCreate) mutate(ctx context.Context, pod *corev1.Pod, made creation) (
	out *corev1.Pod, outcome metrics.PodOutcome, warnings []string,
) {
	log := logf.FromContext(ctx)
	out = inject.Strip(pod)
	if !inject.Enabled(pod) {
		return out, metrics.PodUnchanged, nil
	}
	if why := match.Never(pod); why != "" {
		return out, metrics.PodUnchanged, []string{"the pod can't be checkpointed: " + why}
	}
	warnings = append(wish.Warnings(pod), scheduleWarnings(pod)...)
	outcome = metrics.PodPrepared

	pc, id, err := h.ownClaim(ctx, pod, made.user.Username)
	if err != nil {
		log.Error(err, "Taking a claim for forged")
	}
	if pc != nil {
		// The hash looks past the checkpoint's images only in a pod that is marked as restoring.
		out = inject.Restore(out, pc, id)
		outcome = metrics.PodRestoring
	}
	out = inject.OptIn(out, inject.Options{
		TemplateHash: match.TemplateHash(out), Creator: made.user.Username, Scheduler: h.opts.SchedulerReady(ctx), Taints: h.opts.Taints,
	})
	if h.opts.Responder && wish.Triggered(pod, v1alpha1.TriggerEviction) {
		out = inject.Respond(out)
	}
	if pc != nil || made.dryRun {
		return out, outcome, warnings
	}
	if pc, id, err = h.claim(ctx, out, made); err != nil {
		log.Error(err, "Starting a pod cold, its checkpoint could not be claimed")
	}
	if pc != nil {
		return inject.Restore(out, pc, id), metrics.PodRestoring, warnings
	}
	return out, outcome, warnings
}

// podPatch is the difference between two pods, both as this version of the API types encodes them: fields that a newer API server
// sent and these types lack are in neither, and so stay.
func podPatch(from, to *corev1.Pod) ([]jsonpatch.Operation, error) {
	from, to = differing(from, to)
	a, err := json.Marshal(from)
	if err != nil {
		return nil, fmt.Errorf("encoding pod %q: %w", from.Name, err)
	}
	b, err := json.Marshal(to)
	if err != nil {
		return nil, fmt.Errorf("encoding pod %q: %w", to.Name, err)
	}
	if bytes.Equal(a, b) {
		return nil, nil
	}
	patches, err := jsonpatch.CreatePatch(a, b)
	if err != nil {
		return nil, fmt.Errorf("comparing pod %q: %w", to.Name, err)
	}
	return patches, nil
}

// differing are both pods without what is the same in their metadata and specs, which is most of them: encoding and comparing that would take
// longer than all else that is done for a pod.
func differing(from, to *corev1.Pod) (a, b *corev1.Pod) {
	a, b = &corev1.Pod{ObjectMeta: from.ObjectMeta, Spec: from.Spec}, &corev1.Pod{ObjectMeta: to.ObjectMeta, Spec: to.Spec}
	dropEqual(&a.ObjectMeta, &b.ObjectMeta)
	dropEqual(&a.Spec, &b.Spec)
	return a, b
}

// dropEqual empties the fields that two structs have in common.
func dropEqual[T any](a, b *T) {
	x, y := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range x.NumField() {
		if reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			x.Field(i).SetZero()
			y.Field(i).SetZero()
		}
	}
}
