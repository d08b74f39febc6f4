// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func enter(pc *v1alpha1.PodCheckpoint, phase v1alpha1.Phase, now time.Time, message string) {
	pc.Status.Phase = phase
	pc.Status.Message = message
	pc.Status.Timings = append(pc.Status.Timings, v1alpha1.PhaseTiming{Phase: phase, Time: metav1.NewMicroTime(now)})
}

// readyTime is when the checkpoint became Ready; its creation, where that is not noted.
func readyTime(pc *v1alpha1.PodCheckpoint) time.Time {
	for _, t := range pc.Status.Timings {
		if t.Phase == v1alpha1.PhaseReady {
			return t.Time.Time
		}
	}
	return pc.CreationTimestamp.Time
}
