// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// TestTooLongNamesWhat tells the owner of a pod that is not even frozen what it may not stand still for.
func TestTooLongNamesWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 400*mib)
		c.add("a", 2*gib, func(s *v1alpha1.PodCheckpointSpec) { s.MaxFreezeSeconds = 5 })
		c.work(time.Second)
		c.expect("a", v1alpha1.PhaseFailed, v1alpha1.ReasonMaxFreeze, "nothing was frozen; the annotation checkpoint.io/max-freeze allows no more")
	})
}
