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
		Kernel:        "6.12.43+deb13-cloud-amd64",
		CRIUVersion:   "4.2.1",
	}
	// node is one like the source, but for what change does to it.
	node := func(change func(*v1alpha1.NodeProfileStatus)) *v1alpha1.NodeProfile {
		s := v1alpha1.NodeProfileStatus{
			Arch: source.Arch, CPUFeatures: source.CPUFeatures, CgroupVersion: source.CgroupVersion, Runtime: source.Runtime,
			Kernel: source.Kernel, CRIUVersion: source.CRIUVersion,
			RestoreMethods: []v1alpha1.RestoreMethod{{Name: "image", Verified: true}},
		}
		if change != nil {
			change(&s)
		}
		return &v1alpha1.NodeProfile{Status: s}
	}
	kernel := func(release string) *v1alpha1.NodeProfile {
		return node(func(s *v1alpha1.NodeProfileStatus) { s.Kernel = release })
	}
	criu := func(version string) *v1alpha1.NodeProfile {
		return node(func(s *v1alpha1.NodeProfileStatus) { s.CRIUVersion = version })
	}
	const (
		olderKernel = "node(s) with an older kernel than the checkpoint's (6.12)"
		olderCRIU   = "node(s) with an older CRIU than the one that made the checkpoint (4.2)"
	)
	tests := map[string]struct {
		profile        *v1alpha1.NodeProfile
		want           v1alpha1.Requirements
		kernel         locality.KernelPolicy
		class, refused string
	}{
		"the same":       {profile: node(nil), want: source},
		"no requirement": {profile: node(nil)},
		"no profile": {
			want: source, class: "no_profile", refused: "node(s) without a NodeProfile (no Cryopod agent has reported from there)",
		},
		"self-test failed": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.RestoreMethods[0].Verified = false }), want: source,
			class: "method_unverified", refused: "node(s) whose agent has not verified restoring by method image",
		},
		"another method verified": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.RestoreMethods[0].Name = "runtime" }), want: source,
			class: "method_unverified", refused: "node(s) whose agent has not verified restoring by method image",
		},
		"another architecture": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.Arch = "arm64" }), want: source,
			class: "arch", refused: "node(s) with another CPU architecture than the checkpoint's (amd64)",
		},
		"another runtime": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.Runtime = "cri-o://1.36.0" }), want: source,
			class: "runtime", refused: "node(s) with another container runtime than the checkpoint's (containerd)",
		},
		"another version of the runtime": {profile: node(func(s *v1alpha1.NodeProfileStatus) { s.Runtime = "containerd://2.1.9" }), want: source},
		"another cgroup version": {
			profile: node(func(s *v1alpha1.NodeProfileStatus) { s.CgroupVersion = 1 }), want: source,
			class: "cgroup_version", refused: "node(s) with another cgroup version than the checkpoint's (v2)",
		},
		"a newer kernel":                      {profile: kernel("6.16.0"), want: source},
		"a kernel of the same release":        {profile: kernel("6.12.1"), want: source},
		"a kernel of a later series":          {profile: kernel("7.0-rc1"), want: source},
		"an older kernel":                     {profile: kernel("6.1.0-28-amd64"), want: source, class: "kernel", refused: olderKernel},
		"an older kernel with a later number": {profile: kernel("5.15.0-91-generic"), want: source, class: "kernel", refused: olderKernel},
		"an older kernel, ignored":            {profile: kernel("5.15.0-91-generic"), want: source, kernel: locality.KernelIgnore},
		"a kernel that can't be read":         {profile: kernel("custom"), want: source},
		"an older CRIU":                       {profile: criu("4.1.1"), want: source, class: "criu_version", refused: olderCRIU},
		"an older CRIU with a later number":   {profile: criu("3.19"), want: source, class: "criu_version", refused: olderCRIU},
		"an older CRIU, kernels ignored": {
			profile: criu("3.19"), want: source, kernel: locality.KernelIgnore, class: "criu_version", refused: olderCRIU,
		},
		"another patch of CRIU": {profile: criu("4.2"), want: source},
		"a newer CRIU":          {profile: criu("5.0~rc1"), want: source},
		"CRIU is not known":     {profile: criu(""), want: source},
		"facts that the node leaves open": {
			profile: &v1alpha1.NodeProfile{Status: v1alpha1.NodeProfileStatus{
				RestoreMethods: []v1alpha1.RestoreMethod{{Name: "image", Verified: true}},
			}},
			want: source,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if tc.kernel == "" {
				tc.kernel = locality.DefaultKernel
			}
			class, message := locality.Fit(tc.profile, tc.want, locality.DefaultCPUFeatures, tc.kernel)
			if class != tc.class || message != tc.refused {
				t.Errorf("got %s %q, want %s %q", class, message, tc.class, tc.refused)
			}
		})
	}
}

func TestFitOfTheCPU(t *testing.T) {
	const lacks = "node(s) whose CPU lacks "
	const may = " that the checkpoint may use"
	type by map[locality.CPUFeaturePolicy]string
	all := func(message string) by {
		return by{locality.CPUFeaturesSuperset: message, locality.CPUFeaturesCRIU: message, locality.CPUFeaturesIgnore: ""}
	}
	tests := map[string]struct {
		arch       string
		want, have []string
		refused    by
	}{
		"the same":                   {want: []string{"avx2", "sse2"}, have: []string{"sse2", "avx2"}, refused: all("")},
		"more":                       {want: []string{"avx2", "sse2"}, have: []string{"sse2", "avx512f", "avx2", "avx"}, refused: all("")},
		"none is wanted":             {have: []string{"sse2"}, refused: all("")},
		"none is known of the node":  {want: []string{"avx2", "sse2"}, refused: all("")},
		"one less":                   {want: []string{"avx2", "sse2"}, have: []string{"sse2"}, refused: all(lacks + "avx2" + may)},
		"a name that begins another": {want: []string{"avx512f"}, have: []string{"avx", "avx512fp16"}, refused: all(lacks + "avx512f" + may)},
		"many less": {
			want: []string{"avx512vl", "avx512f", "avx512dq", "avx512cd", "avx512bw", "avx2"}, have: []string{"fpu", "sse2"},
			refused: all(lacks + "avx2, avx512bw, avx512cd and 3 more" + may),
		},
		"one that only kernels use": {
			want: []string{"smap", "sse2"}, have: []string{"sse2"},
			refused: by{locality.CPUFeaturesSuperset: lacks + "smap" + may},
		},
		"one that CRIU does not compare": {
			want: []string{"fma", "sse2"}, have: []string{"sse2"},
			refused: by{locality.CPUFeaturesSuperset: lacks + "fma" + may},
		},
		"what programs use is named first": {
			want: []string{"arat", "pcid", "smap", "xsavec", "avx"}, have: []string{"sse2"},
			refused: by{
				locality.CPUFeaturesSuperset: lacks + "avx, xsavec, arat and 2 more" + may,
				locality.CPUFeaturesCRIU:     lacks + "avx, xsavec" + may,
			},
		},
		"arm64, which CRIU does not look at": {
			arch: "arm64", want: []string{"aes", "sve"}, have: []string{"asimd"},
			refused: by{locality.CPUFeaturesSuperset: lacks + "aes, sve" + may},
		},
	}
	for name, tc := range tests {
		if tc.arch == "" {
			tc.arch = "amd64"
		}
		want := v1alpha1.Requirements{Arch: tc.arch, CPUFeatures: tc.want}
		profile := &v1alpha1.NodeProfile{Status: v1alpha1.NodeProfileStatus{
			Arch: tc.arch, CPUFeatures: tc.have, RestoreMethods: []v1alpha1.RestoreMethod{{Name: "image", Verified: true}},
		}}
		for _, policy := range []locality.CPUFeaturePolicy{locality.CPUFeaturesSuperset, locality.CPUFeaturesCRIU, locality.CPUFeaturesIgnore} {
			t.Run(name+"/"+string(policy), func(t *testing.T) {
				class, message := locality.Fit(profile, want, policy, locality.DefaultKernel)
				if message != tc.refused[policy] || message != "" && class != "cpu_features" {
					t.Errorf("got %s %q, want %q", class, message, tc.refused[policy])
				}
			})
		}
	}
}

func TestRelease(t *testing.T) {
	for version, want := range map[string]string{
		"6.12.43+deb13-cloud-amd64": "6.12", "5.14.0-427.el9.x86_64": "5.14", "6.12": "6.12", "7.0-rc1": "7.0", "4.2.1": "4.2", "3.17.1-3": "3.17",
		"": "0.0", "6": "0.0", "6.": "0.0", "v6.1": "0.0", "custom": "0.0", "6.x": "0.0", "99999999999999999999.1": "0.0",
	} {
		if got := locality.Release(version); got != want {
			t.Errorf("%q is read as %s, want %s", version, got, want)
		}
	}
}
