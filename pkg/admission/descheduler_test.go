// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"strings"
	"testing"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// TestEvictionThatIsAskedForOnce shows what the descheduler gets for a pod that it asks for in the background: the words that it takes for
// a promise, and somebody who keeps it.
func TestEvictionThatIsAskedForOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		annotation string
		want       v1alpha1.Removal
	}{
		"asked once":     {"descheduler.alpha.kubernetes.io/request-evict-only", v1alpha1.RemovalEvict},
		"asked as usual": {"example.com/other", v1alpha1.RemovalNone},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				answer := w.held(t.Context(), w.evictions())
				w.change(first, phaseTo(v1alpha1.PhaseDumping, ""))
				got := <-answer
				if got.Allowed || !strings.Contains(got.Result.Message, "Eviction triggered evacuation") {
					t.Errorf("answer = %+v, want a 429 with the words", got)
				}
				if all := w.checkpoints(); len(all) != 1 || all[0].Spec.Removal != tc.want {
					t.Errorf("PodCheckpoints = %+v, want one with removal %s", all, tc.want)
				}
			}, running(annotate(tc.annotation, "")), canCheckpoint())
		})
	}
}
