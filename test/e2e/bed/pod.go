// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/object"
)

const pollInterval = 250 * time.Millisecond

// Create makes objects in their order.
func (b *Bed) Create(ctx context.Context, objects ...client.Object) error {
	for _, o := range objects {
		if err := b.Client.Create(ctx, o); err != nil {
			return fmt.Errorf("creating %T %q: %w", o, o.GetName(), err)
		}
	}
	return nil
}

// Until asks holds again and again until it does, or ctx is done; then the error has what holds said last before that.
func Until(ctx context.Context, holds func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		err := holds(ctx)
		if err == nil {
			return nil
		}
		// What fails because the time is over tells nothing.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), last)
		case <-ticker.C:
		}
	}
}

// Pod is the one pod made by that name in the namespace that is not being deleted and has not ended.
func (b *Bed) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	var pods corev1.PodList
	if err := b.Client.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels{object.LabelApp: name}); err != nil {
		return nil, fmt.Errorf("listing the pods of %q: %w", name, err)
	}
	var found []*corev1.Pod
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("finding the pod of %q: there are %d", name, len(found))
	}
	return found[0], nil
}

// RunningPod waits until the one pod of that name, other than those of the given UIDs, runs.
func (b *Bed) RunningPod(ctx context.Context, namespace, name string, not ...types.UID) (*corev1.Pod, error) {
	var pod *corev1.Pod
	err := Until(ctx, func(ctx context.Context) (err error) {
		if pod, err = b.Pod(ctx, namespace, name); err != nil {
			return err
		}
		for _, uid := range not {
			if pod.UID == uid {
				return fmt.Errorf("pod %q of %q has not been replaced", pod.Name, name)
			}
		}
		for _, c := range pod.Status.ContainerStatuses {
			if c.State.Running == nil {
				return fmt.Errorf("container %q of pod %q does not run: %s", c.Name, pod.Name, state(c.State))
			}
		}
		if pod.Status.Phase != corev1.PodRunning || len(pod.Status.ContainerStatuses) == 0 {
			return fmt.Errorf("pod %q of %q is %s", pod.Name, name, pod.Status.Phase)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for a pod of %q: %w", name, err)
	}
	return pod, nil
}

func state(s corev1.ContainerState) string {
	switch {
	case s.Waiting != nil:
		return s.Waiting.Reason + " " + s.Waiting.Message
	case s.Terminated != nil:
		return s.Terminated.Reason + " " + s.Terminated.Message
	default:
		return "no state"
	}
}

// Checkpoints are the attempts to save the pod of that UID.
func (b *Bed) Checkpoints(ctx context.Context, namespace string, podUID types.UID) ([]v1alpha1.PodCheckpoint, error) {
	var all v1alpha1.PodCheckpointList
	if err := b.Client.List(ctx, &all, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing PodCheckpoints: %w", err)
	}
	var found []v1alpha1.PodCheckpoint
	for _, c := range all.Items {
		if c.Spec.PodUID == podUID {
			found = append(found, c)
		}
	}
	return found, nil
}

// EmptyNamespace deletes a namespace and returns when its pods are gone. The rest goes by itself, within seconds.
func (b *Bed) EmptyNamespace(ctx context.Context, name string) error {
	if err := b.deleteNamespace(ctx, name); err != nil {
		return err
	}
	return Until(ctx, func(ctx context.Context) error {
		var pods corev1.PodList
		if err := b.Client.List(ctx, &pods, client.InNamespace(name)); err != nil {
			return fmt.Errorf("listing the pods of namespace %q: %w", name, err)
		}
		if len(pods.Items) > 0 {
			return fmt.Errorf("namespace %q still has %d pods", name, len(pods.Items))
		}
		return nil
	})
}

func (b *Bed) deleteNamespace(ctx context.Context, name string) error {
	ns := &corev1.Namespace{}
	ns.Name = name
	if err := client.IgnoreNotFound(b.Client.Delete(ctx, ns)); err != nil {
		return fmt.Errorf("removing namespace %q: %w", name, err)
	}
	return nil
}

// RemoveNamespace deletes a namespace and returns when it is gone.
func (b *Bed) RemoveNamespace(ctx context.Context, name string) error {
	if err := b.deleteNamespace(ctx, name); err != nil {
		return err
	}
	ns := &corev1.Namespace{}
	ns.Name = name
	return Until(ctx, func(ctx context.Context) error {
		err := b.Client.Get(ctx, client.ObjectKeyFromObject(ns), ns)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("namespace %q is still there", name)
		}
		return err
	})
}

// Events are those of a namespace, in the order of their making.
func (b *Bed) Events(ctx context.Context, namespace string) ([]corev1.Event, error) {
	var all corev1.EventList
	if err := b.Client.List(ctx, &all, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing the events of %q: %w", namespace, err)
	}
	slices.SortStableFunc(all.Items, func(x, y corev1.Event) int { return EventTime(x).Compare(EventTime(y)) })
	return all.Items, nil
}

// EventTime is when the event was made: of its fields, that which its kind of recorder fills in.
func EventTime(e corev1.Event) time.Time {
	switch {
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	case !e.FirstTimestamp.IsZero():
		return e.FirstTimestamp.Time
	default:
		return e.CreationTimestamp.Time
	}
}
