// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

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
		shared   int64 // of these, what is fetched for the others anyway
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
		"the same image is on its way":         {needed: images{app}, profile: profile(), others: []images{{app}}, pull: 150, shared: 150, pods: 2},
		"an image of the same layers is":       {needed: images{newer}, profile: profile(), others: []images{{app}}, pull: 162, shared: 150, pods: 2},
		"others are being pulled, ours there":  {needed: images{app}, profile: profile(app), others: []images{{newer}, {newer}}, pull: 12, shared: 12, pods: 3},
		"a pod starts that needs no pull":      {needed: images{app}, profile: profile(app), others: []images{{app}}, pull: 0, pods: 2},
		"nothing known of the node, two share": {needed: images{app}, others: []images{{sidecar}}, pull: 153, shared: 103, pods: 2},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pull, own, pods := locality.LoadOn(tc.profile, tc.reported, tc.needed, tc.others...)
			if pull != tc.pull*mib || own != (tc.pull-tc.shared)*mib || pods != tc.pods {
				t.Errorf("%.2f MiB to pull, %.2f of them its own, %d pods; want %d, %d, %d", float64(pull)/mib, float64(own)/mib, pods,
					tc.pull, tc.pull-tc.shared, tc.pods)
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

// TestPrice: the pod's own bytes count once more for each unit of the weight, at the rate that is the same for all nodes.
func TestPrice(t *testing.T) {
	m := locality.Model{PullBytesPerSecond: ptr.To(resource.MustParse("10Mi")), UnpackBytesPerSecond: ptr.To(resource.MustParse("10Mi"))}
	for name, tc := range map[string]struct {
		weight    int32
		pull, own int64 // in MiB
		measured  int64
		want      time.Duration
	}{
		"time alone":                      {weight: 0, pull: 30, own: 30, want: 7 * time.Second},
		"others pull it":                  {weight: 2, pull: 30, own: 0, want: 7 * time.Second},
		"it pulls by itself":              {weight: 2, pull: 30, own: 30, want: 7*time.Second + 6*time.Second},
		"it pulls a part, on a fast line": {weight: 2, pull: 30, own: 10, measured: 30 * mib, want: 5*time.Second + 2*time.Second},
		"for weeks":                       {weight: 2, pull: 1 << 40, own: 1 << 40, want: (math.MaxInt32 - 1) * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			m.TrafficWeight = &tc.weight
			if got := time.Duration(locality.Price(m, tc.pull*mib, tc.own*mib, tc.measured)) * time.Millisecond; got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
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
		"a little sooner matters little": {[]int64{3_000, 4_000}, []int64{100, 91}},
		"the whole scale":                {[]int64{0, 5_000, 10_000}, []int64{100, 55, 10}},
		"beyond it":                      {[]int64{1_000, 6_000, 21_000, 41_000}, []int64{100, 55, 5, 2}},
		"one that can't restore":         {[]int64{1_000, locality.Never, 2_000}, []int64{100, 0, 91}},
		"none can":                       {[]int64{locality.Never, locality.Never}, []int64{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := locality.Normalize(scale, tc.ms...); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
