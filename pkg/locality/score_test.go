// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
	"github.com/cryopod/cryopod/pkg/locality"
)

const mib = 1 << 20

func TestLoad(t *testing.T) {
	var (
		os      = layer("1", 100*mib)
		libs    = layer("2", 40*mib)
		app     = stored("a", "app:1", os, libs, layer("3", 10*mib))
		newer   = stored("b", "app:2", os, libs, layer("4", 12*mib))
		base    = stored("c", "base:1", os, libs)
		sidecar = stored("d", "sidecar:1", os, layer("5", 3*mib))
		mirror  = stored("a", "mirror/app:1", os, libs, layer("3", 10*mib))
	)
	type images = []imageindex.Image
	profile := func(has ...imageindex.Image) *v1alpha1.NodeProfile {
		return &v1alpha1.NodeProfile{Status: v1alpha1.NodeProfileStatus{ImageIndex: imageindex.Pack(has)}}
	}
	tests := map[string]struct {
		needed   images
		profile  *v1alpha1.NodeProfile
		reported []string
		others   []images
		pull     int64 // in MiB
		pods     int
	}{
		"the whole image is there":             {needed: images{app}, profile: profile(app), pull: 0, pods: 1},
		"nothing is there":                     {needed: images{app}, profile: profile(), pull: 150, pods: 1},
		"no profile":                           {needed: images{app}, pull: 150, pods: 1},
		"no profile, reported by name":         {needed: images{app}, reported: []string{"app:1"}, pull: 0, pods: 1},
		"two of three layers":                  {needed: images{app}, profile: profile(base), pull: 10, pods: 1},
		"by digest, under another name":        {needed: images{app}, profile: profile(mirror), pull: 0, pods: 1},
		"two images that share a layer":        {needed: images{app, sidecar}, profile: profile(layerless("e")), pull: 153, pods: 1},
		"one of two images":                    {needed: images{app, sidecar}, profile: profile(sidecar), pull: 50, pods: 1},
		"an index that can't be read":          {needed: images{app}, profile: &v1alpha1.NodeProfile{Status: v1alpha1.NodeProfileStatus{ImageIndex: []byte{9}}}, pull: 150, pods: 1},
		"the same image is on its way":         {needed: images{app}, profile: profile(), others: []images{{app}}, pull: 150, pods: 2},
		"an image of the same layers is":       {needed: images{newer}, profile: profile(), others: []images{{app}}, pull: 162, pods: 2},
		"others are being pulled, ours there":  {needed: images{app}, profile: profile(app), others: []images{{newer}, {newer}}, pull: 12, pods: 3},
		"a pod starts that needs no pull":      {needed: images{app}, profile: profile(app), others: []images{{app}}, pull: 0, pods: 2},
		"nothing known of the node, two share": {needed: images{app}, others: []images{{sidecar}}, pull: 153, pods: 2},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pull, pods := locality.LoadOn(tc.profile, tc.reported, tc.needed, tc.others...)
			if pull != tc.pull*mib || pods != tc.pods {
				t.Errorf("%.2f MiB to pull, %d pods; want %d, %d", float64(pull)/mib, pods, tc.pull, tc.pods)
			}
		})
	}
}

func TestSeconds(t *testing.T) {
	rate := func(q string) *resource.Quantity { r := resource.MustParse(q); return &r }
	model := locality.Model{
		PullBytesPerSecond: rate("10Mi"), UnpackBytesPerSecond: rate("20Mi"), RestoreBytesPerSecond: rate("50Mi"),
		StartTime: &metav1.Duration{Duration: 500 * time.Millisecond},
	}
	for name, tc := range map[string]struct {
		pull, restore int64
		pods          int
		measured      int64
		want          float64
	}{
		"nothing to do but start":        {pods: 1, want: 0.5},
		"a pull":                         {pull: 100 * mib, pods: 1, want: 10 + 5 + 0.5},
		"a pull, the rate was measured":  {pull: 100 * mib, pods: 1, measured: 100 * mib, want: 1 + 5 + 0.5},
		"a restore":                      {restore: 100 * mib, pods: 1, want: 2 + 0.5},
		"pull, restore and others there": {pull: 10 * mib, restore: 25 * mib, pods: 4, want: 1 + 0.5 + 0.5 + 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := locality.Seconds(model, tc.pull, tc.restore, tc.pods, tc.measured); math.Abs(got-tc.want) > 1e-9 {
				t.Errorf("%v s, want %v", got, tc.want)
			}
		})
	}
}

func TestNormalize(t *testing.T) {
	const scale = 10 * time.Second
	for name, tc := range map[string]struct {
		ms, want []int64
	}{
		"none":                           {},
		"one":                            {[]int64{70_000}, []int64{100}},
		"all alike":                      {[]int64{3_000, 3_000}, []int64{100, 100}},
		"a little sooner matters little": {[]int64{3_000, 4_000}, []int64{100, 90}},
		"the whole scale":                {[]int64{0, 5_000, 10_000}, []int64{100, 50, 0}},
		"beyond it the worst is 0":       {[]int64{1_000, 21_000, 41_000}, []int64{100, 50, 0}},
		"one that can't restore":         {[]int64{1_000, locality.Never, 2_000}, []int64{100, 0, 90}},
		"none can":                       {[]int64{locality.Never, locality.Never}, []int64{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := locality.Normalize(scale, tc.ms...); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
