// SPDX-License-Identifier: Apache-2.0

package profile_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cryopod/cryopod/pkg/agent/profile"
)

// FuzzCPUFeatures: the features are words, sorted, each once, and every CPU of the list has them.
func FuzzCPUFeatures(f *testing.F) {
	f.Add([]byte("processor: 0\nflags\t: fpu vme sse2\n\nprocessor: 1\nflags\t: vme sse2 avx\n"))
	f.Add([]byte("Features: fp asimd\n"))
	f.Add([]byte("flags:\nflags: a\n:::"))
	f.Fuzz(func(t *testing.T, info []byte) {
		got := profile.CPUFeatures(info)
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("features %q", got)
		}
		for _, feature := range got {
			if feature == "" || len(strings.Fields(feature)) != 1 || !strings.Contains(string(info), feature) {
				t.Errorf("feature %q", feature)
			}
		}
	})
}
