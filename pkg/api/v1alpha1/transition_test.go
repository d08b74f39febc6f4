// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func TestEnter(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := v1alpha1.PodCheckpointStatus{}
	s.Enter(v1alpha1.PhaseReady, "saved", start)
	s.Enter(v1alpha1.PhaseClaimed, "taken over", start.Add(time.Second))
	s.Enter(v1alpha1.PhaseReady, "given back", start.Add(time.Minute))

	want := v1alpha1.PodCheckpointStatus{
		Phase:   v1alpha1.PhaseReady,
		Message: "given back",
		Timings: []v1alpha1.PhaseTiming{
			{Phase: v1alpha1.PhaseReady, Time: metav1.NewMicroTime(start)},
			{Phase: v1alpha1.PhaseClaimed, Time: metav1.NewMicroTime(start.Add(time.Second))},
			{Phase: v1alpha1.PhaseReady, Time: metav1.NewMicroTime(start.Add(time.Minute))},
		},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if at, ok := s.Entered(v1alpha1.PhaseReady); !ok || !at.Equal(start.Add(time.Minute)) {
		t.Errorf("Entered(Ready) = %v, %v, want the last time", at, ok)
	}
	if at, ok := s.Entered(v1alpha1.PhaseFailed); ok {
		t.Errorf("Entered(Failed) = %v, true, want false", at)
	}
}

func TestEnterBoundsTheMessage(t *testing.T) {
	for name, message := range map[string]string{
		"long":          strings.Repeat("a", 5000),
		"long, umlauts": strings.Repeat("ä", 5000),
		"not UTF-8":     "criu: \xff\xfe",
	} {
		t.Run(name, func(t *testing.T) {
			s := v1alpha1.PodCheckpointStatus{}
			s.Enter(v1alpha1.PhaseFailed, message, time.Unix(0, 0))
			if len(s.Message) > 1024 || !utf8.ValidString(s.Message) || s.Message == "" {
				t.Errorf("message of %d bytes, valid UTF-8: %v", len(s.Message), utf8.ValidString(s.Message))
			}
		})
	}
}
