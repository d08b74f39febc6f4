// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// The classes of refusals, as the metric counts them.
const (
	refusedNoProfile  = "no_profile"
	refusedUnverified = "method_unverified"
	refusedArch       = "arch"
	refusedRuntime    = "runtime"
	refusedCgroup     = "cgroup_version"
	refusedCPU        = "cpu_features"
	refusedEnding     = "ending"
)

// refusal says why a node cannot restore a checkpoint. Its message reads after "2 " in the scheduler's summary for people.
type refusal struct {
	class, message string
}

// passes tells whether the refusal may end by itself, when the node's agent has come up.
func (r *refusal) passes() bool {
	return r.class == refusedNoProfile || r.class == refusedUnverified
}

// namedFeatures is how many missing CPU features a refusal names.
const namedFeatures = 3

// fit returns nil when a node can restore a checkpoint by the method, else the first reason why not. A requirement that the
// checkpoint leaves open, and a fact that the node leaves open, is no reason.
func fit(n *node, method string, want v1alpha1.Requirements, cpu CPUFeaturePolicy) *refusal {
	switch {
	case n == nil:
		return &refusal{refusedNoProfile, "node(s) without a NodeProfile (no Cryopod agent has reported from there)"}
	case !n.verified[method]:
		return &refusal{refusedUnverified, fmt.Sprintf("node(s) whose agent has not verified restoring by method %s", method)}
	case differ(want.Arch, n.arch):
		return &refusal{refusedArch, fmt.Sprintf("node(s) with another CPU architecture than the checkpoint's (%s)", want.Arch)}
	case differ(runtimeFamily(want.Runtime), n.runtime):
		return &refusal{refusedRuntime, fmt.Sprintf("node(s) with another container runtime than the checkpoint's (%s)", runtimeFamily(want.Runtime))}
	case differ(want.CgroupVersion, n.cgroupVersion):
		return &refusal{refusedCgroup, fmt.Sprintf("node(s) with another cgroup version than the checkpoint's (v%d)", want.CgroupVersion)}
	}
	if cpu == CPUFeaturesIgnore || len(n.cpuFeatures) == 0 {
		return nil
	}
	if lacking := missing(want.CPUFeatures, n.cpuFeatures); len(lacking) > 0 {
		return &refusal{refusedCPU, fmt.Sprintf("node(s) whose CPU lacks features that the checkpoint may use (%s)", enumerate(lacking))}
	}
	return nil
}

// differ reports whether both are known and not the same.
func differ[T comparable](want, have T) bool {
	var unknown T
	return want != unknown && have != unknown && want != have
}

// missing returns, sorted, what of want is not in have, which is sorted.
func missing(want, have []string) []string {
	var lacking []string
	for _, f := range want {
		if _, found := slices.BinarySearch(have, f); !found {
			lacking = append(lacking, f)
		}
	}
	slices.Sort(lacking)
	return lacking
}

func enumerate(features []string) string {
	if len(features) > namedFeatures {
		return fmt.Sprintf("%s and %d more", strings.Join(features[:namedFeatures], ", "), len(features)-namedFeatures)
	}
	return strings.Join(features, ", ")
}
