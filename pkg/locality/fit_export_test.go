// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"maps"
	"slices"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Fit is fit's class and message, empty when the node of that profile (nil: it has none) can restore the checkpoint.
func Fit(profile *v1alpha1.NodeProfile, want v1alpha1.Requirements, cpu CPUFeaturePolicy, kernel KernelPolicy) (class, message string) {
	var n *node
	if profile != nil {
		n = newNode(profile)
	}
	t := &target{demand: newDemand(want), by: policy{cpu: cpu, kernel: kernel}, compared: &comparisons{}}
	t.refuses(n) // what is remembered of it is the same
	if r := t.refuses(n); r != nil {
		return r.class, r.message
	}
	return "", ""
}

// ComparedByCRIU are the CPU features that CPUFeaturesCRIU takes into account, sorted.
func ComparedByCRIU() []string { return slices.Sorted(maps.Keys(comparedByCRIU)) }

// Release is what is read of a version, 0.0 when nothing can be.
func Release(version string) string { return releaseOf(version).String() }
