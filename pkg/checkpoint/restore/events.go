// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/match"
)

func restoredEvent(pc *v1alpha1.PodCheckpoint, node string, took time.Duration) event.Event {
	from := fmt.Sprintf("where pod %q stopped", pc.Spec.PodName)
	if match.SourceLost(pc) {
		from = fmt.Sprintf("from a state of pod %q that was %s old when it was claimed: what happened since is lost",
			pc.Spec.PodName, match.Age(pc, pc.Status.Claim.Time.Time))
	}
	return event.Event{
		Type: corev1.EventTypeNormal, Reason: event.ReasonRestored, Action: "Restore",
		Message: fmt.Sprintf("Restored from PodCheckpoint %q on node %q, %.1f s after the claim; it carries on %s",
			pc.Name, node, took.Seconds(), from),
	}
}

func restoreFailedEvent(checkpoint, why string, podEnded bool) event.Event {
	next := "starting cold from the base images"
	if podEnded {
		next = "the next pod starts cold"
	}
	return event.Event{
		Type: corev1.EventTypeWarning, Reason: event.ReasonRestoreFailed, Action: "FallBack",
		Message: fmt.Sprintf("Restore from PodCheckpoint %q failed (%s); %s", checkpoint, why, next),
	}
}

func coldRestartEvent(why string) event.Event {
	return event.Event{
		Type: corev1.EventTypeWarning, Reason: event.ReasonRestoreFailed, Action: "FallBack",
		Message: fmt.Sprintf("Not running from the checkpoint any more (%s); starting cold from the base image", why),
	}
}
