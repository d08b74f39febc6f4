// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"testing"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/locality"
)

func TestFit(t *testing.T) {
	source := v1alpha1.Requirements{
		Arch:          "amd64",
		CPUFeatures:   []string{"avx", "avx2", "sse2"},
		CgroupVersion: 2,
		Runtime:       "containerd://2.3.7",
		Kernel:        "6.12.0",
	}
	// node is one like the source, but for what change does to it.
	node := func(change func(*v1alpha1.NodeProfileStatus)) *v1alpha1.NodeProfile {
		s := v1alpha1.NodeProfileStatus{
			Arch:           "amd64",
			CPUFeatures:    []string{"avx", "avx2", "sse2"},
			CgroupVersion:  2,
			Runtime:        "containerd://2.3.7",
			Kernel:         "6.16.0",
			RestoreMethods: []v1alpha1.RestoreMethod{{Name: "image", Verified: true}},
		}
		if change != nil {
			change(&s)
		}
		return &v1alpha1.NodeProfile{Status: s}
	}
	tests := map[string]struct {
		profile *v1alpha1.NodeProfile
		want    v1alpha1.Requirements
		cpu     locality.CPUFeaturePolicy
		refused string
	}{
		"the same":       {profile: node(nil), want: source},
		"no requirement": {profile: node(nil)},
		"no profile":     {want: source, refused: "node(s) without a NodeProfile (no Cryopod agent has reported from there)"},
		"self-test failed": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.RestoreMethods[0].Verified = false }), want: source,
			refused: "node(s) whose agent has not verified restoring by method image",
		},
		"another method verified": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.RestoreMethods[0].Name = "runtime" }), want: source,
			refused: "node(s) whose agent has not verified restoring by method image",
		},
		"another architecture": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.Arch = "arm64" }), want: source,
			refused: "node(s) with another CPU architecture than the checkpoint's (amd64)",
		},
		"another runtime": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.Runtime = "cri-o://1.36.0" }), want: source,
			refused: "node(s) with another container runtime than the checkpoint's (containerd)",
		},
		"another version of the runtime": {profile: node(func(s *v1alpha1.NodeProfileStatus) { s.Runtime = "containerd://2.1.9" }), want: source},
		"another cgroup version": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.CgroupVersion = 1 }), want: source,
			refused: "node(s) with another cgroup version than the checkpoint's (v2)",
		},
		"more CPU features, in any order": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.CPUFeatures = []string{"sse2", "avx512f", "avx2", "avx"} }), want: source,
		},
		"fewer CPU features": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.CPUFeatures = []string{"sse2"} }), want: source,
			refused: "node(s) whose CPU lacks features that the checkpoint may use (avx, avx2)",
		},
		"far fewer CPU features": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.CPUFeatures = []string{"fpu"} }),
			want:    v1alpha1.Requirements{CPUFeatures: []string{"e", "d", "c", "b", "a"}},
			refused: "node(s) whose CPU lacks features that the checkpoint may use (a, b, c and 2 more)",
		},
		"fewer CPU features, ignored": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.CPUFeatures = []string{"sse2"} }), want: source,
			cpu: locality.CPUFeaturesIgnore,
		},
		"facts that the node leaves open": {
			profile: &v1alpha1.NodeProfile{Status: v1alpha1.NodeProfileStatus{
				RestoreMethods: []v1alpha1.RestoreMethod{{Name: "image", Verified: true}},
			}},
			want: source,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if tc.cpu == "" {
				tc.cpu = locality.CPUFeaturesSuperset
			}
			if got := locality.Fit(tc.profile, tc.want, tc.cpu); got != tc.refused {
				t.Errorf("got %q, want %q", got, tc.refused)
			}
		})
	}
}
