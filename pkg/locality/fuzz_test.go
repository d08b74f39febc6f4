// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/cryopod/cryopod/pkg/locality"
)

// FuzzDecodeArgs: args that are taken are within their bounds, have no field unset, and read the same when they are written out.
func FuzzDecodeArgs(f *testing.F) {
	for _, s := range []string{
		"", "{}", "null", "[]", "restorePatience: 2m\n", `{"restorePatience":"0s","cpuFeatures":"Ignore"}`,
		`{"apiVersion":"checkpoint.io/v1alpha1","kind":"CheckpointLocalityArgs","restorePatience":"90s","cpuFeatures":"CRIU"}`,
		`{"restorePatience":1}`, `{"a":1,"a":2}`, "a: &a [*a]", "restorePatience: 1h\nrestorePatience: 2h\n", "&a {x: &b {y: *a}}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		args, err := locality.DecodeArgs(&runtime.Unknown{Raw: raw})
		if err != nil {
			return
		}
		if d := args.RestorePatience; d == nil || d.Duration < 0 || d.Duration > time.Hour {
			t.Fatalf("patience %v", d)
		}
		policies := []locality.CPUFeaturePolicy{locality.CPUFeaturesSuperset, locality.CPUFeaturesCRIU, locality.CPUFeaturesIgnore}
		if !slices.Contains(policies, args.CPUFeatures) || args.Kind == "" || args.APIVersion == "" {
			t.Errorf("args %+v", args)
		}
		written, err := json.Marshal(args)
		if err != nil {
			t.Fatal(err)
		}
		again, err := locality.DecodeArgs(&runtime.Unknown{Raw: written})
		if err != nil {
			t.Fatalf("reading %s: %v", written, err)
		}
		if diff := cmp.Diff(args, again); diff != "" {
			t.Errorf("%s (-want +got):\n%s", written, diff)
		}
	})
}
