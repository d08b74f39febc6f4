// SPDX-License-Identifier: Apache-2.0

// Package evictioncontroller stands in for Kubernetes's evictionrequest-controller (KEP-4563), which 1.37 has the API of and not yet the
// program: it makes Evictions of EvictionRequests and gives each responder its turn, as the API's documentation says. The API
// server checks every one of its steps. It evicts nothing itself.
package evictioncontroller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	lifecyclev1alpha1 "k8s.io/api/lifecycle/v1alpha1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const interval = 200 * time.Millisecond

// Run looks after the EvictionRequests of a namespace until ctx is done. Failed rounds are told to failed, and tried again.
func Run(ctx context.Context, c client.Client, namespace string, failed func(error)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := round(ctx, c, namespace); err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) {
				failed(err)
			}
		}
	}
}

func round(ctx context.Context, c client.Client, namespace string) error {
	var requests lifecyclev1alpha1.EvictionRequestList
	var evictions lifecyclev1alpha1.EvictionList
	for _, list := range []client.ObjectList{&requests, &evictions} {
		if err := c.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return fmt.Errorf("listing what is asked for in %q: %w", namespace, err)
		}
	}
	targets := map[types.UID][]lifecyclev1alpha1.EvictionRequest{}
	for _, r := range requests.Items {
		targets[r.Spec.Target.Pod.UID] = append(targets[r.Spec.Target.Pod.UID], r)
	}
	for uid, asked := range targets {
		pod, err := target(ctx, c, namespace, asked[0].Spec.Target.Pod)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(evictions.Items, func(e lifecyclev1alpha1.Eviction) bool { return e.Spec.Target.Pod.UID == uid })
		if i < 0 {
			if err := c.Create(ctx, newEviction(pod, asked)); err != nil {
				return fmt.Errorf("making an Eviction: %w", err)
			}
			continue
		}
		ev := &evictions.Items[i]
		before := ev.Status.DeepCopy()
		advance(ev, pod, asked, metav1.Now())
		if equality.Semantic.DeepEqual(before, &ev.Status) {
			continue
		}
		if err := c.Status().Update(ctx, ev); err != nil {
			return fmt.Errorf("writing Eviction %q: %w", ev.Name, err)
		}
	}
	return nil
}

// target is the pod, nil when it has gone.
func target(ctx context.Context, c client.Client, namespace string, ref *lifecyclev1alpha1.EvictionRequestPodReference) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, pod)
	if apierrors.IsNotFound(err) || err == nil && pod.UID != ref.UID {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading pod %q: %w", ref.Name, err)
	}
	return pod, nil
}

func newEviction(pod *corev1.Pod, asked []lifecyclev1alpha1.EvictionRequest) *lifecyclev1alpha1.Eviction {
	ref := asked[0].Spec.Target.Pod
	ev := &lifecyclev1alpha1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: asked[0].Namespace, GenerateName: ref.Name + "-", Labels: map[string]string{}},
		Spec: lifecyclev1alpha1.EvictionSpec{Target: lifecyclev1alpha1.EvictionTarget{
			Pod: &lifecyclev1alpha1.EvictionPodReference{Name: ref.Name, UID: ref.UID},
		}},
	}
	for _, r := range asked {
		ev.Labels[r.Spec.Requester] = string(lifecyclev1alpha1.EvictionParticipantRoleRequester)
	}
	if pod != nil {
		for _, r := range pod.Spec.EvictionResponders {
			ev.Labels[r.Name] = string(lifecyclev1alpha1.EvictionParticipantRoleResponder)
		}
	}
	return ev
}

// advance is one step of the Eviction's life.
func advance(ev *lifecyclev1alpha1.Eviction, pod *corev1.Pod, asked []lifecyclev1alpha1.EvictionRequest, now metav1.Time) {
	s := &ev.Status
	if len(s.TargetResponders) == 0 {
		if pod != nil {
			begin(s, pod, asked, now)
		}
		return
	}
	active := slices.IndexFunc(s.TargetResponders, func(r lifecyclev1alpha1.TargetResponder) bool {
		return r.State == lifecyclev1alpha1.ResponderStateActive
	})
	if active < 0 {
		return
	}
	state := &s.TargetResponders[active].State
	completed := s.Responders[active].CompletionTime != nil
	wanted := slices.ContainsFunc(asked, func(r lifecyclev1alpha1.EvictionRequest) bool {
		return r.Spec.Intent == lifecyclev1alpha1.EvictionRequestIntentEviction
	})
	switch {
	case pod == nil:
		*state = lifecyclev1alpha1.ResponderStateInterrupted
		if completed {
			*state = lifecyclev1alpha1.ResponderStateCompleted
		}
		conclude(ev, lifecyclev1alpha1.EvictionConditionTargetEvicted, lifecyclev1alpha1.EvictionConditionReasonPodDeleted)
	case !wanted:
		*state = lifecyclev1alpha1.ResponderStateCanceled
		conclude(ev, lifecyclev1alpha1.EvictionConditionFailed, lifecyclev1alpha1.EvictionConditionReasonCanceledDueToNoRequesters)
	case completed && pod.DeletionTimestamp == nil:
		*state = lifecyclev1alpha1.ResponderStateCompleted
		if active+1 < len(s.TargetResponders) {
			s.TargetResponders[active+1].State = lifecyclev1alpha1.ResponderStateActive
			s.Responders[active+1].StartTime = &now
		}
	}
}

// begin names the responders, the first in line first, and gives that one its turn.
func begin(s *lifecyclev1alpha1.EvictionStatus, pod *corev1.Pod, asked []lifecyclev1alpha1.EvictionRequest, now metav1.Time) {
	for _, r := range asked {
		s.Requesters = append(s.Requesters, lifecyclev1alpha1.Requester{
			Name: r.Spec.Requester, Intent: lifecyclev1alpha1.RequesterIntent(r.Spec.Intent),
		})
	}
	line := append(slices.Clone(pod.Spec.EvictionResponders), corev1.EvictionResponder{
		Name: lifecyclev1alpha1.EvictionResponderImperativeEviction, Priority: ptr.To[int32](100),
	})
	slices.SortFunc(line, func(a, b corev1.EvictionResponder) int { return cmp.Compare(*b.Priority, *a.Priority) })
	for _, r := range line {
		s.TargetResponders = append(s.TargetResponders, lifecyclev1alpha1.TargetResponder{
			Name: r.Name, Priority: r.Priority, State: lifecyclev1alpha1.ResponderStateInactive,
		})
		s.Responders = append(s.Responders, lifecyclev1alpha1.ResponderStatus{Name: r.Name})
	}
	s.TargetResponders[0].State = lifecyclev1alpha1.ResponderStateActive
	s.Responders[0].StartTime = &now
}

func conclude(ev *lifecyclev1alpha1.Eviction, condition lifecyclev1alpha1.EvictionConditionType, reason lifecyclev1alpha1.EvictionConditionReason) {
	meta.SetStatusCondition(&ev.Status.Conditions, metav1.Condition{
		Type: string(condition), Status: metav1.ConditionTrue, Reason: string(reason), ObservedGeneration: ev.Generation,
	})
}
