// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxMessage is the greatest length of a message in bytes, as the CRD bounds it.
const maxMessage = 1024

// Enter puts the status into the phase: its message, and the time in Timings. It writes nothing else and asks nothing: that the
// phase may follow the present one is for the caller to know, and that nobody else wrote meanwhile is for resourceVersion.
func (s *PodCheckpointStatus) Enter(phase Phase, message string, at time.Time) {
	s.Phase = phase
	s.Message = bound(message)
	s.Timings = append(s.Timings, PhaseTiming{Phase: phase, Time: metav1.NewMicroTime(at)})
}

// Entered is when the phase was entered the last time, and whether it ever was. Pending is entered by the object's creation and is
// not among the timings.
func (s *PodCheckpointStatus) Entered(phase Phase) (time.Time, bool) {
	for i := len(s.Timings) - 1; i >= 0; i-- {
		if s.Timings[i].Phase == phase {
			return s.Timings[i].Time.Time, true
		}
	}
	return time.Time{}, false
}

// bound cuts a message to what the API server accepts, at the end of a character.
func bound(message string) string {
	message = strings.ToValidUTF8(message, "\uFFFD")
	if len(message) <= maxMessage {
		return message
	}
	end := maxMessage - len("…")
	for end > 0 && !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + "…"
}
