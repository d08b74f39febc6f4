// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// maxWhy keeps an event's note below the API's 1024 characters, and a warning's readable.
const maxWhy = 600

func checkpointStarted(r Recorder, c *Case, pc *v1alpha1.PodCheckpoint) {
	r.Eventf(c.Pod, pc, corev1.EventTypeNormal, "CheckpointStarted", "Checkpoint",
		"The pod is to be saved before %s; it goes by %s, with its checkpoint or without",
		going(c.Trigger), match.DeadlineOf(pc).UTC().Format(time.RFC3339))
}

// going is the trigger for people.
func going(t v1alpha1.Trigger) string {
	switch t {
	case v1alpha1.TriggerTermination:
		return "the end of its node"
	case v1alpha1.TriggerPreemption:
		return "its preemption"
	case v1alpha1.TriggerDelete:
		return "its deletion"
	}
	return "its eviction"
}

func evictedCold(r Recorder, pod *corev1.Pod, why string) {
	const note = "No checkpoint: %s; evicting without it, the replacement starts cold"
	r.Eventf(pod, nil, corev1.EventTypeWarning, "EvictedCold", "Evict", note, cut(why))
	if owner := ownerReference(pod); owner != nil {
		r.Eventf(owner, pod, corev1.EventTypeWarning, "EvictedCold", "Evict", "Pod "+pod.Name+": "+note, cut(why))
	}
}

// deletedCold is evictedCold for a deletion. The reason is the same: people look for one.
func deletedCold(r Recorder, c *Case, why string) {
	const note = "No checkpoint before %s: %s; deleting without it, the replacement starts cold"
	r.Eventf(c.Pod, nil, corev1.EventTypeWarning, "EvictedCold", "Delete", note, going(c.Trigger), cut(why))
	if owner := ownerReference(c.Pod); owner != nil {
		r.Eventf(owner, c.Pod, corev1.EventTypeWarning, "EvictedCold", "Delete", "Pod "+c.Pod.Name+": "+note, going(c.Trigger), cut(why))
	}
}

func notCheckpointable(r Recorder, c *Case, why string) {
	action, what := "Evict", "eviction"
	if c.Removal == v1alpha1.RemovalDelete {
		action, what = "Delete", "deletion"
	}
	r.Eventf(c.Pod, nil, corev1.EventTypeWarning, "NotCheckpointable", action,
		"The pod can't be checkpointed: %s; its %s goes on without a checkpoint", cut(why), what)
}

func checkpointClaimed(r Recorder, pod *corev1.Pod, pc *v1alpha1.PodCheckpoint) {
	const note = "Pod %s is replaced by one that starts from its checkpoint; waiting for it to be restored"
	r.Eventf(pc, nil, corev1.EventTypeNormal, "CheckpointClaimed", "Claim", note, pc.Spec.PodName)
	if owner := ownerReference(pod); owner != nil {
		r.Eventf(owner, pc, corev1.EventTypeNormal, "CheckpointClaimed", "Claim", note, pc.Spec.PodName)
	}
}

func checkpointPassedOver(r Recorder, owner *v1alpha1.Owner, pc *v1alpha1.PodCheckpoint, rule string) {
	r.Eventf(pc, nil, corev1.EventTypeNormal, "CheckpointPassedOver", "Claim",
		"A new pod of %s %q does not start from it: %s; it waits for one that may, and expires when none comes", owner.Kind, owner.Name, rule)
}

// ownerReference is the pod's controller as the subject of an event, nil when it has none.
func ownerReference(pod *corev1.Pod) runtime.Object {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return nil
	}
	return &corev1.ObjectReference{
		APIVersion: ref.APIVersion, Kind: ref.Kind, Name: ref.Name, UID: ref.UID, Namespace: pod.Namespace,
	}
}

func cut(text string) string {
	if len(text) <= maxWhy {
		return text
	}
	return strings.ToValidUTF8(text[:maxWhy], "") + "…"
}
