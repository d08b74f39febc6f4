// SPDX-License-Identifier: Apache-2.0

package removal

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// reasonDisruption is the reason of the condition DisruptionTarget of pods that Cryopod deletes. A Job's podFailurePolicy goes by the
// condition's type: such a pod counts as disrupted, not as failed.
const reasonDisruption = "DeletionByCryopod"

// savedGrace is the grace period, in seconds, of a pod that is saved. Its processes are frozen and can't make use of more. 0 would drop
// the pod from the API before the kubelet has killed it.
const savedGrace = 1

// Remover ends pods. It may be used from many goroutines at once.
type Remover struct {
	// Client deletes and evicts.
	Client client.Client
	// Live reads from the API server.
	Live client.Reader
	// Events gets the events.
	Events event.Recorder
	// Clock tells the time.
	Clock clock.PassiveClock
}

// Order is the end of one pod.
type Order struct {
	// Pod is the pod; only the very one, by its UID, is ended.
	Pod *corev1.Pod
	// Checkpoint is the attempt to save it, nil where there was none.
	Checkpoint *v1alpha1.PodCheckpoint
	// Reason is why, for the metric.
	Reason v1alpha1.Reason
	// How is v1alpha1.RemovalDelete or v1alpha1.RemovalEvict.
	How v1alpha1.Removal
	// Cold says why the pod goes without a checkpoint, empty when it is saved.
	Cold string
	// Unplaced is whether the pod is deleted only as long as it has no node.
	Unplaced bool
}

// Remove ends the pod unless it is on its way already, and says so on the pod, the PodCheckpoint and the owner. Refused is what the API
// server answered where the pod may not go yet, empty else.
func (r *Remover) Remove(ctx context.Context, o Order) (refused string, err error) {
	pod := &corev1.Pod{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(o.Pod), pod); err != nil {
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return "", fmt.Errorf("reading pod %q: %w", o.Pod.Name, err)
	}
	if pod.UID != o.Pod.UID || Over(pod) || o.Unplaced && pod.Spec.NodeName != "" {
		return "", nil
	}
	options := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(pod.UID)}}
	if o.Cold == "" {
		options.GracePeriodSeconds = ptr.To(int64(savedGrace))
	}
	if o.How == v1alpha1.RemovalEvict {
		err = r.Client.SubResource("eviction").Create(ctx, pod, &policyv1.Eviction{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: pod.Namespace, Name: pod.Name, Annotations: map[string]string{v1alpha1.AnnotationTold: "true"},
			},
			DeleteOptions: &options,
		})
	} else {
		marked := r.mark(ctx, pod, o)
		if o.Unplaced {
			if marked.Spec.NodeName != "" {
				return "", nil
			}
			options.Preconditions.ResourceVersion = ptr.To(marked.ResourceVersion)
		}
		err = r.Client.Delete(ctx, pod, &client.DeleteOptions{GracePeriodSeconds: options.GracePeriodSeconds, Preconditions: options.Preconditions})
	}
	switch {
	case apierrors.IsTooManyRequests(err):
		return err.Error(), nil
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		// It is gone, or another pod has its name.
		return "", nil
	case err != nil:
		return "", fmt.Errorf("ending pod %q: %w", pod.Name, err)
	}
	r.tell(ctx, pod, o)
	return "", nil
}

// mark writes the condition DisruptionTarget, as the Eviction API does and all of Kubernetes' parts that delete pods. Without it the pod
// goes all the same. It returns the pod as it is then.
func (r *Remover) mark(ctx context.Context, pod *corev1.Pod, o Order) *corev1.Pod {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return pod
		}
	}
	message := "Cryopod: saved, to go on elsewhere"
	if o.Cold != "" {
		message = "Cryopod: to start anew elsewhere"
	}
	// Marshalling plain strings has no way to fail.
	patch, _ := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reasonDisruption, Message: message,
			LastTransitionTime: metav1.NewTime(r.Clock.Now()),
		}}},
	})
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	err := r.Client.Status().Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, patch))
	if client.IgnoreNotFound(err) != nil {
		log.FromContext(ctx).Error(err, "Noting on a pod that it is deleted for the sake of its node; a Job may count it as failed", "pod", pod.Name)
	}
	if err != nil {
		return pod
	}
	return target
}

func (r *Remover) tell(ctx context.Context, pod *corev1.Pod, o Order) {
	verb, outcome := "deleting", metrics.RemovedSaved
	if o.How == v1alpha1.RemovalEvict {
		verb = "evicting"
	}
	e := event.Event{Type: corev1.EventTypeNormal, Reason: event.ReasonRemoved, Action: "Remove"}
	if o.Cold == "" {
		e.Message = fmt.Sprintf("Pod %q is saved by PodCheckpoint %q; %s it, its replacement goes on from there", pod.Name, o.Checkpoint.Name, verb)
	} else {
		outcome = metrics.RemovedCold
		e.Type, e.Reason = corev1.EventTypeWarning, event.ReasonEvictedCold
		e.Message = fmt.Sprintf("No checkpoint of pod %q: %s; %s it, the replacement starts cold", pod.Name, cut(o.Cold), verb)
	}
	log.FromContext(ctx).Info("Ended a pod", "pod", pod.Name, "namespace", pod.Namespace, "how", o.How, "outcome", outcome, "cold", o.Cold)
	metrics.CountRemoval(o.Reason, outcome)
	event.Publish(r.Events, e, o.Checkpoint, pod)
}

// GiveUp says that the pod stays, for it was refused to go until its time was up.
func (r *Remover) GiveUp(o Order, refused string, deadline time.Time) {
	metrics.CountRemoval(o.Reason, metrics.RemovedNot)
	event.Publish(r.Events, event.Event{
		Type: corev1.EventTypeWarning, Reason: event.ReasonNotRemoved, Action: "GiveUp",
		Message: fmt.Sprintf("Pod %q could not be evicted by %s (%s); it stays until somebody else ends it",
			o.Pod.Name, deadline.UTC().Format(time.RFC3339), cut(refused)),
	}, o.Checkpoint, o.Pod)
}

// cut keeps an event's note below the API's 1024 characters.
func cut(text string) string {
	const most = 600
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
