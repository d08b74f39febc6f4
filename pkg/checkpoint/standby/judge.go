// SPDX-License-Identifier: Apache-2.0

package standby

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
	"github.com/cryopod/cryopod/pkg/wish"
)

// Source is the pod that a checkpoint was made of.
type Source struct {
	// Pod is the pod as it is, or as it was last seen; nil when it is gone and nobody saw it go.
	Pod *corev1.Pod
	// Gone is whether it exists no more.
	Gone bool
}

// ending tells whether the pod has ended or is about to, one way or another.
func (s Source) ending() bool {
	return s.Gone || s.Pod.DeletionTimestamp != nil ||
		s.Pod.Status.Phase == corev1.PodFailed || s.Pod.Status.Phase == corev1.PodSucceeded
}

// Case is everything that a verdict depends on.
type Case struct {
	// Checkpoint is the one to judge.
	Checkpoint *v1alpha1.PodCheckpoint
	// Siblings are all PodCheckpoints of the same pod; that the checkpoint is among them does no harm.
	Siblings []v1alpha1.PodCheckpoint
	// Source is the pod.
	Source Source
	// Node is the pod's node as the API server has it, nil when there is none of that name. It matters while the source is ending.
	Node *corev1.Node
	// Peers are the pods of the namespace.
	Peers []corev1.Pod
	// Lacks is whether the pod's owner is known to lack a pod at this moment, although one was made since: others of it went as well.
	Lacks bool
	// Now is the time.
	Now time.Time
}

// Verdict is what becomes of a checkpoint. Its zero value is nothing.
type Verdict struct {
	// Status is what to write; nil is nothing.
	Status *v1alpha1.PodCheckpointStatus
	// Lost is whether the status says that the checkpoint may be claimed from now on.
	Lost bool
	// Fail is another checkpoint of the pod that has to be ended before, as it could become Ready yet; nil when there is none.
	Fail *v1alpha1.PodCheckpoint
	// Event is published after the write, unless its Reason is empty.
	Event event.Event
	// Outcome is counted after the write.
	Outcome metrics.Outcome
}

// Concerns tells whether the PodCheckpoint is one that a verdict is due about: Ready, on a schedule, and not known yet to be what is left of
// its pod.
func Concerns(pc *v1alpha1.PodCheckpoint) bool {
	return pc.Spec.Reason == v1alpha1.ReasonSchedule && !pc.Spec.Fence && pc.Status.Phase == v1alpha1.PhaseReady &&
		pc.DeletionTimestamp == nil && !match.SourceLost(pc)
}

// Judge decides about a checkpoint that it concerns. The steps are ordered; the first that applies counts. A checkpoint may be claimed only
// where it is certain that the pod went with its node; whenever that is not certain, the replacement starts cold.
func Judge(c Case) Verdict {
	pc, pod := c.Checkpoint, c.Source.Pod
	if !Concerns(pc) {
		return Verdict{}
	}
	for i := range c.Siblings {
		if s := &c.Siblings[i]; s.Name != pc.Name && match.SourceLost(s) && !s.Status.Phase.Final() {
			return c.expire(fmt.Sprintf("PodCheckpoint %q is the one that is left of pod %q", s.Name, pc.Spec.PodName), false)
		}
	}
	bearing, other := match.Weightiest(pc, c.Siblings)
	switch {
	case bearing == match.BearingClaimed:
		return c.expire(fmt.Sprintf("Pod %q goes on from PodCheckpoint %q", pc.Spec.PodName, other.Name), false)
	case bearing == match.BearingFenced && (pod == nil || c.Source.ending()):
		return c.expire(fmt.Sprintf("Pod %q stopped at PodCheckpoint %q, which is newer", pc.Spec.PodName, other.Name), false)
	case bearing == match.BearingNewer:
		return c.expire(fmt.Sprintf("Superseded by PodCheckpoint %q", other.Name), false)
	case pod == nil:
		return c.expire(fmt.Sprintf("Pod %q is gone and nobody saw how; its replacement starts cold", pc.Spec.PodName), true)
	}
	if name := match.Restarted(pod, pc); name != "" {
		return c.expire(fmt.Sprintf("Container %q of pod %q has ended since", name, pod.Name), false)
	}
	if c.Source.ending() {
		return c.judgeEnding(bearing, other)
	}
	if _, wished := wish.Interval(pod); !wished || !inject.Enabled(pod) {
		return c.expire(fmt.Sprintf("Pod %q is not to be saved on a schedule any more", pod.Name), false)
	}
	return Verdict{}
}

// judgeEnding decides about a pod that has ended, or is about to.
func (c Case) judgeEnding(bearing match.Bearing, other *v1alpha1.PodCheckpoint) Verdict {
	pc, pod := c.Checkpoint, c.Source.Pod
	lost, why := match.Lost(pod, c.Node)
	switch {
	case lost && bearing == match.BearingUnderWay:
		return Verdict{Fail: other}
	case lost:
		if p := match.StandIn(c.Peers, pod); p != nil && !c.Lacks {
			return c.expire(fmt.Sprintf("Pod %q was made in place of pod %q before it was certain that that one runs no more, and started cold",
				p.Name, pod.Name), true)
		}
		return c.lost(why)
	case !c.Source.Gone && pod.DeletionTimestamp != nil && c.replacedByName() && !c.heard():
		// Its controller can't replace it while the object is there: there is time to learn what became of the node.
		return Verdict{}
	}
	unheard := !c.heard()
	return c.expire(c.endedHow(pc, pod, unheard), unheard)
}

// replacedByName tells whether the pod's replacement has the same name, and so can't be made before the pod is gone.
func (c Case) replacedByName() bool {
	o := c.Checkpoint.Status.Owner
	return o != nil && o.Slot == c.Checkpoint.Spec.PodName
}

func (c Case) heard() bool { return c.Node != nil && match.Heard(c.Node) }

// endedHow is a sentence on how a pod ended that was not lost with its node, as far as one knows.
func (c Case) endedHow(pc *v1alpha1.PodCheckpoint, pod *corev1.Pod, unheard bool) string {
	how := "was deleted"
	switch {
	case pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed && pod.DeletionTimestamp == nil:
		how = "has ended by itself"
	case c.Source.Gone:
		how = "is gone"
	}
	if unheard {
		return fmt.Sprintf("Pod %q %s while its node %q was not heard of, and may be running there; its replacement starts cold",
			pod.Name, how, pc.Spec.NodeName)
	}
	return fmt.Sprintf("Pod %q %s, and its node %q lives", pod.Name, how, pc.Spec.NodeName)
}

// lost makes the checkpoint one that may be claimed.
func (c Case) lost(why string) Verdict {
	pc := c.Checkpoint
	message := fmt.Sprintf("Pod %q is lost: %s; its replacement starts from this checkpoint, which is %s old: what happened since is lost",
		pc.Spec.PodName, why, match.Age(pc, c.Now))
	status := pc.Status.DeepCopy()
	status.Message = message
	setSourceLost(status, metav1.ConditionTrue, event.ReasonSourceLost, message, c.Now)
	return Verdict{
		Status: status, Lost: true, Outcome: metrics.OutcomeSourceLost,
		Event: event.Event{Type: corev1.EventTypeWarning, Reason: event.ReasonSourceLost, Action: "Offer", Message: message},
	}
}

// expire ends the checkpoint. Told is whether somebody will want to know why a replacement starts cold.
func (c Case) expire(message string, told bool) Verdict {
	status := c.Checkpoint.Status.DeepCopy()
	status.Enter(v1alpha1.PhaseExpired, message, c.Now)
	setSourceLost(status, metav1.ConditionFalse, "Expired", message, c.Now)
	v := Verdict{Status: status, Outcome: metrics.OutcomeExpired}
	if told {
		v.Event = event.Event{Type: corev1.EventTypeWarning, Reason: event.ReasonNotOffered, Action: "GiveUp", Message: message}
	}
	return v
}

func setSourceLost(s *v1alpha1.PodCheckpointStatus, is metav1.ConditionStatus, reason, message string, now time.Time) {
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionSourceLost, Status: is, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now),
	})
}
