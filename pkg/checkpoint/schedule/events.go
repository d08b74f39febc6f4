// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
)

// The reasons of this controller's events.
const (
	reasonNever   = "NotSavedOnSchedule"
	reasonTrouble = "ScheduleLate"
)

// maxWhy keeps an event's note below the API's 1024 characters.
const maxWhy = 600

func neverEvent(why string) event.Event {
	return event.Event{
		Type: corev1.EventTypeWarning, Reason: reasonNever, Action: "Refuse",
		Message: fmt.Sprintf("%s is not heeded: %s; should the node die, the replacement starts cold", v1alpha1.AnnotationInterval, cut(why)),
	}
}

func troubleEvent(why string) event.Event {
	return event.Event{
		Type: corev1.EventTypeWarning, Reason: reasonTrouble, Action: "Retry",
		Message: fmt.Sprintf("The pod was not saved when it was due (%s); it is tried again, less and less often, and this is said once", cut(why)),
	}
}

func cut(text string) string {
	if len(text) <= maxWhy {
		return text
	}
	return strings.ToValidUTF8(text[:maxWhy], "") + "…"
}
