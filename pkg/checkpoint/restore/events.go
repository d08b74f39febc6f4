// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/checkpoint/event"
)

func restoredEvent(checkpoint, source, node string, took time.Duration) event.Event {
	return event.Event{
		Type: corev1.EventTypeNormal, Reason: event.ReasonRestored, Action: "Restore",
		Message: fmt.Sprintf("Restored from PodCheckpoint %q on node %q, %.1f s after the claim; it carries on where pod %q stopped",
			checkpoint, node, took.Seconds(), source),
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
