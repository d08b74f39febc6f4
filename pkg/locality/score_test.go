// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"testing"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/locality"
)

const mib = 1 << 20

func TestPresent(t *testing.T) {
	var (
		app = v1alpha1.NodeImage{
			Name: "registry.example/app@" + digest("a"), Bytes: 300 * mib,
			Layers: []string{"000000000001", "000000000002", "000000000003"},
		}
		sidecar = v1alpha1.NodeImage{
			Name: "registry.example/sidecar@" + digest("b"), Bytes: 100 * mib,
			Layers: []string{"000000000001", "0000000000ff"},
		}
		tiny = v1alpha1.NodeImage{Name: "registry.example/tiny@" + digest("c"), Bytes: 8 * mib, Layers: []string{"000000000abc"}}
		// base shares its layers with app.
		base = v1alpha1.NodeImage{
			Name: "registry.example/base@" + digest("d"), Bytes: 200 * mib,
			Layers: []string{"000000000001", "000000000002"},
		}
		odd = v1alpha1.NodeImage{Name: "registry.example/odd@" + digest("e"), Bytes: 64 * mib, Layers: []string{"not hex"}}
	)
	profile := func(images ...v1alpha1.NodeImage) *v1alpha1.NodeProfile {
		return &v1alpha1.NodeProfile{Status: v1alpha1.NodeProfileStatus{Images: images}}
	}
	tests := map[string]struct {
		needed   []v1alpha1.NodeImage
		profile  *v1alpha1.NodeProfile
		reported []string
		want     int64
	}{
		"the whole image":               {needed: []v1alpha1.NodeImage{app}, profile: profile(app), want: 100},
		"nothing":                       {needed: []v1alpha1.NodeImage{app}, profile: profile(tiny), want: 0},
		"no profile":                    {needed: []v1alpha1.NodeImage{app}, want: 0},
		"no profile, reported":          {needed: []v1alpha1.NodeImage{app}, reported: []string{app.Name}, want: 100},
		"two of three layers":           {needed: []v1alpha1.NodeImage{app}, profile: profile(base), want: 66},
		"by digest in another registry": {needed: []v1alpha1.NodeImage{app}, profile: profile(v1alpha1.NodeImage{Name: "mirror/app@" + digest("a")}), want: 100},
		"the larger of two images":      {needed: []v1alpha1.NodeImage{app, tiny}, profile: profile(app), want: 97},
		"two images by bytes":           {needed: []v1alpha1.NodeImage{app, sidecar}, profile: profile(app), want: 87}, // of the sidecar's 100 MiB, half is a shared layer
		"a small image matters little":  {needed: []v1alpha1.NodeImage{tiny}, profile: profile(app), want: 75},
		"a small image that is there":   {needed: []v1alpha1.NodeImage{tiny}, profile: profile(tiny), want: 100},
		"layers that cannot be read":    {needed: []v1alpha1.NodeImage{odd}, profile: profile(app), want: 0},
		"nothing needed":                {profile: profile(app), want: 100},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := locality.Present(tc.needed, tc.profile, tc.reported...); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}
