// SPDX-License-Identifier: Apache-2.0

package retention_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/retention"
)

// FuzzOverride: whatever a namespace's annotations say, no bound becomes negative, and one that can't be read leaves the cluster's.
func FuzzOverride(f *testing.F) {
	f.Add("3", "90m", "20Gi")
	f.Add("-1", "-1s", "-1")
	f.Add("9223372036854775808", "1e99h", "1e99")
	f.Add("", "0", "0.5")
	f.Fuzz(func(t *testing.T, count, age, bytes string) {
		policy := retention.Policy{Count: 7, Age: time.Hour, Bytes: 1 << 30, KeepImages: true}
		got, wrong := policy.Override(map[string]string{
			v1alpha1.AnnotationRetentionCount: count, v1alpha1.AnnotationRetentionAge: age, v1alpha1.AnnotationRetentionBytes: bytes,
		})
		if got.Count < 0 || got.Age <= 0 || got.Bytes < 0 || got.KeepImages != policy.KeepImages {
			t.Errorf("policy %+v", got)
		}
		kept := map[string]bool{
			v1alpha1.AnnotationRetentionCount: got.Count == policy.Count, v1alpha1.AnnotationRetentionAge: got.Age == policy.Age,
			v1alpha1.AnnotationRetentionBytes: got.Bytes == policy.Bytes,
		}
		for _, w := range wrong {
			key, _, _ := strings.Cut(w, "=")
			if !kept[key] {
				t.Errorf("%q, and all the same %+v", w, got)
			}
		}
		again, _ := got.Override(map[string]string{
			v1alpha1.AnnotationRetentionCount: count, v1alpha1.AnnotationRetentionAge: age, v1alpha1.AnnotationRetentionBytes: bytes,
		})
		if diff := cmp.Diff(got, again); diff != "" {
			t.Errorf("twice is not once:\n%s", diff)
		}
		if n, err := retention.ParseBytes(bytes); err == nil && n < 0 {
			t.Errorf("%q is %d bytes", bytes, n)
		}
	})
}
