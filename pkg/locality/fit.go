// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"fmt"
	"strconv"
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
	refusedKernel     = "kernel"
	refusedCRIU       = "criu_version"
	refusedCPU        = "cpu_features"
	refusedEnding     = "ending"
	refusedCordoned   = "cordoned"
)

// refusal says why a pod does not go to a node. Its message reads after "2 " in the scheduler's summary for people.
type refusal struct {
	class, message string
}

// passes tells whether the refusal may end by itself, when the node's agent has come up.
func (r *refusal) passes() bool {
	return r.class == refusedNoProfile || r.class == refusedUnverified
}

// policy is what the args leave to the administrator of how a node has to be like the source.
type policy struct {
	cpu    CPUFeaturePolicy
	kernel KernelPolicy
}

// demand is what a checkpoint needs of a node. What it leaves open is the zero value.
type demand struct {
	method        string
	arch, runtime string // the runtime's family
	cgroupVersion int32
	kernel, criu  release
	cpu           features
}

func newDemand(r v1alpha1.Requirements) demand {
	return demand{
		method: v1alpha1.RestoreMethodImage, arch: r.Arch, runtime: runtimeFamily(r.Runtime), cgroupVersion: r.CgroupVersion,
		kernel: releaseOf(r.Kernel), criu: releaseOf(r.CRIUVersion), cpu: featuresOf(r.CPUFeatures),
	}
}

// target is what a node has to offer to the pod of one scheduling cycle.
type target struct {
	demand
	by policy
	// compared are the kinds of CPU that were compared already.
	compared *comparisons
}

// refuses returns nil when a node can restore the checkpoint, else the first reason why not. A requirement that the checkpoint leaves open, and a fact
// that the node leaves open, is no reason.
func (t *target) refuses(n *node) *refusal {
	want := &t.demand
	switch {
	case n == nil:
		return &refusal{refusedNoProfile, "node(s) without a NodeProfile (no Cryopod agent has reported from there)"}
	case !n.verified.has(want.method):
		return &refusal{refusedUnverified, "node(s) whose agent has not verified restoring by method " + want.method}
	case differ(want.arch, n.arch):
		return &refusal{refusedArch, fmt.Sprintf("node(s) with another CPU architecture than the checkpoint's (%s)", want.arch)}
	case differ(want.runtime, n.runtime):
		return &refusal{refusedRuntime, fmt.Sprintf("node(s) with another container runtime than the checkpoint's (%s)", want.runtime)}
	case differ(want.cgroupVersion, n.cgroupVersion):
		return &refusal{refusedCgroup, fmt.Sprintf("node(s) with another cgroup version than the checkpoint's (v%d)", want.cgroupVersion)}
	case t.by.kernel != KernelIgnore && n.kernel.before(want.kernel):
		return &refusal{refusedKernel, fmt.Sprintf("node(s) with an older kernel than the checkpoint's (%s)", want.kernel)}
	case n.criu.before(want.criu):
		return &refusal{refusedCRIU, fmt.Sprintf("node(s) with an older CRIU than the one that made the checkpoint (%s)", want.criu)}
	}
	if n.cpu == t.cpu {
		return nil
	}
	return t.compared.refusal(want, n.cpu, t.by.cpu)
}

// differ reports whether both are known and not the same.
func differ[T comparable](want, have T) bool {
	var unknown T
	return want != unknown && have != unknown && want != have
}

// release is the first two numbers of a version; the zero value is one that is not known.
type release struct {
	major, minor int
}

// releaseOf reads 6.12 of 6.12.0-1-amd64, of 6.12 and of 6.12-rc3.
func releaseOf(version string) release {
	first, rest, _ := strings.Cut(version, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		rest = rest[:end]
	}
	major, errMajor := strconv.Atoi(first)
	minor, errMinor := strconv.Atoi(rest)
	if errMajor != nil || errMinor != nil {
		return release{}
	}
	return release{major, minor}
}

// before reports whether both are known and r is the older one.
func (r release) before(other release) bool {
	var unknown release
	return r != unknown && other != unknown && (r.major < other.major || r.major == other.major && r.minor < other.minor)
}

func (r release) String() string { return fmt.Sprintf("%d.%d", r.major, r.minor) }
