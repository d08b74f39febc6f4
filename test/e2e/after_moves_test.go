// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"testing"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// moves is how often a pod is moved in a row.
const moves = 5

// testAgainAndAgain drains each pod's replacement in turn: every checkpoint but the first is one of a restored pod, and all of them stand
// upon the owner's image.
func testAgainAndAgain(t *testing.T) {
	s := newScene(t, "again", nil, "main")
	s.create(s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main"))))
	pod := s.settle()
	for n := 1; n <= moves; n++ {
		next := s.drain(pod)
		s.checkMoved(pod, next, n)
		for _, c := range s.checkpoint(pod, v1alpha1.PhaseRestored).Status.Containers {
			if c.BaseImage != s.Images.Stepper {
				t.Errorf("container %q of checkpoint %d has base image %q, want the owner's, %q", c.Name, n, c.BaseImage, s.Images.Stepper)
			}
		}
		pod = next
	}
}
