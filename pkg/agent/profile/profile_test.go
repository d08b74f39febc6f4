// SPDX-License-Identifier: Apache-2.0

package profile_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/cryopod/cryopod/pkg/agent/profile"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

func tested(verified bool, message string) profile.Test {
	return profile.Test{Done: true, Method: v1alpha1.RestoreMethod{Name: "image", Verified: verified, Message: message, Time: new(metav1.NewTime(now))}}
}

func TestCPUFeatures(t *testing.T) {
	tests := map[string]struct {
		info string
		want []string
	}{
		"x86, one CPU lacks one":  {"processor\t: 0\nflags\t\t: fpu avx sse\n\nprocessor\t: 1\nflags\t\t: sse fpu\n", []string{"fpu", "sse"}},
		"arm64":                   {"processor : 0\nFeatures : fp asimd\n", []string{"asimd", "fp"}},
		"none":                    {"processor : 0\n", []string{}},
		"bugs and vmx are others": {"flags : fpu\nvmx flags : vnmi\nbugs : spectre_v1\n", []string{"fpu"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, profile.CPUFeatures([]byte(tc.info))); diff != "" {
				t.Errorf("CPUFeatures (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	tests := map[string]struct {
		facts               profile.Facts
		before              v1alpha1.NodeProfileStatus
		checkpoint, restore string
	}{
		"before the test": {profile.Facts{}, v1alpha1.NodeProfileStatus{}, "Unknown/NotTested", "Unknown/NotTested"},
		"all is well":     {profile.Facts{Test: tested(true, "")}, v1alpha1.NodeProfileStatus{}, "True/Tested", "True/Verified"},
		"the kubelet refuses": {profile.Facts{KubeletFailure: "403", Test: tested(true, "")},
			v1alpha1.NodeProfileStatus{}, "False/KubeletRefuses", "True/Verified"},
		"no dump": {profile.Facts{Test: profile.Test{Done: true, DumpFailure: "no criu"}}, v1alpha1.NodeProfileStatus{},
			"False/DumpFails", "False/NotVerified"},
		"no restore": {profile.Facts{Test: tested(false, "off")}, v1alpha1.NodeProfileStatus{}, "True/Tested", "False/NotVerified"},
		"an administrator's options": {profile.Facts{CRIUConfigMessage: "lacks tcp-close", Test: tested(true, "")},
			v1alpha1.NodeProfileStatus{}, "True/Limited", "True/Verified"},
		"no test is wanted": {profile.Facts{Test: profile.Test{Done: true, Skipped: true}}, v1alpha1.NodeProfileStatus{},
			"True/NotTested", "False/NotVerified"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := map[string]string{}
			for _, c := range profile.StatusOf(tc.facts, tc.before, now).Conditions {
				got[c.Type] = string(c.Status) + "/" + c.Reason
			}
			want := map[string]string{v1alpha1.ConditionCanCheckpoint: tc.checkpoint, v1alpha1.ConditionCanRestore: tc.restore}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRestartOfTheAgent keeps what the former life found until the new one has tested, unless the runtime is another one.
func TestRestartOfTheAgent(t *testing.T) {
	facts := profile.Facts{
		Runtime: "containerd://2.3.7", CRIUVersion: "4.2.1", Test: tested(true, "fine"),
		Images: []imageindex.Image{{Digest: "sha256:" + strings.Repeat("a", 64)}},
	}
	before := profile.StatusOf(facts, v1alpha1.NodeProfileStatus{}, now)
	tests := map[string]struct {
		runtime  string
		verified bool
	}{
		"the runtime did not answer yet": {"", true},
		"the same runtime":               {"containerd://2.3.7", true},
		"another runtime":                {"containerd://2.4.2", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := profile.StatusOf(profile.Facts{Runtime: tc.runtime}, before, now.Add(time.Hour))
			if tc.verified {
				if diff := cmp.Diff(before, got); diff != "" {
					t.Errorf("status (-before +after):\n%s", diff)
				}
			} else if len(got.RestoreMethods) != 0 || got.Conditions[1].Status != metav1.ConditionUnknown {
				t.Errorf("another runtime is taken for verified: %+v", got)
			}
		})
	}
}

func TestTheLargestImagesAreKept(t *testing.T) {
	var images []imageindex.Image
	for i := range 600 {
		images = append(images, imageindex.Image{
			Digest: fmt.Sprintf("sha256:%010x%054x", i, 0), Layers: []imageindex.Layer{{Digest: fmt.Sprintf("sha256:%06x%058x", i, 0), Bytes: int64(i) << 20}},
		})
	}
	index, err := imageindex.Unpack(profile.StatusOf(profile.Facts{Images: images}, v1alpha1.NodeProfileStatus{}, now).ImageIndex)
	if err != nil {
		t.Fatal(err)
	}
	_, small := index.Images[99]
	_, large := index.Images[100]
	if len(index.Images) != 500 || small || !large {
		t.Errorf("%s, the 100th largest of 600 among them: %t, the one after it: %t; want the 500 largest", index, small, large)
	}
}

func TestPublish(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "node-uid"}}
	api := fake.NewClientBuilder().WithScheme(scheme).WithObjects(node).Build()
	facts := profile.Facts{Runtime: "containerd://2.3.7", Test: tested(true, "fine")}
	clock := clocktesting.NewFakeClock(now)
	p := profile.NewPublisher("node-1", api, func() profile.Facts { return facts }, clock)
	steps := []struct {
		name   string
		change func()
		wrote  bool
	}{
		{"it is not there", func() {}, true},
		{"nothing changed", func() { clock.Step(time.Hour) }, false},
		{"a fact changed", func() { facts.CRIUVersion = "4.2.1" }, true},
		{"somebody deleted it", func() {
			if err := api.Delete(t.Context(), &v1alpha1.NodeProfile{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}); err != nil {
				t.Fatal(err)
			}
		}, true},
	}
	for _, s := range steps {
		s.change()
		if wrote, err := p.Publish(t.Context()); err != nil || wrote != s.wrote {
			t.Errorf("%s: wrote %v, %v; want %v", s.name, wrote, err, s.wrote)
		}
	}
	got := &v1alpha1.NodeProfile{}
	if err := api.Get(t.Context(), client.ObjectKey{Name: "node-1"}, got); err != nil {
		t.Fatal(err)
	}
	want := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node-1", UID: "node-uid"}}
	if diff := cmp.Diff(want, got.OwnerReferences); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
}

// TestRatesAreKept leaves what a former life of the agent measured until there is a measurement.
func TestRatesAreKept(t *testing.T) {
	before := v1alpha1.NodeProfileStatus{PushBytesPerSecond: 10, DumpBytesPerSecond: 20, PullBytesPerSecond: 30}
	rates := func(s v1alpha1.NodeProfileStatus) []int64 {
		return []int64{s.PushBytesPerSecond, s.DumpBytesPerSecond, s.PullBytesPerSecond}
	}
	for _, tc := range []struct{ push, dump, pull int64 }{{0, 0, 0}, {3, 4, 5}} {
		want := rates(before)
		if tc.push > 0 {
			want = []int64{tc.push, tc.dump, tc.pull}
		}
		facts := profile.Facts{PushBytesPerSecond: tc.push, DumpBytesPerSecond: tc.dump, PullBytesPerSecond: tc.pull}
		if diff := cmp.Diff(want, rates(profile.StatusOf(facts, before, time.Unix(0, 0)))); diff != "" {
			t.Errorf("push, dump, pull (-want +got):\n%s", diff)
		}
	}
}

// TestIndexSize: 200 images of 10 layers of their own, each with a tag and a repository, are 16 KiB of the object at most, base64 as JSON has it.
func TestIndexSize(t *testing.T) {
	digest := func(parts ...any) string {
		return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(fmt.Sprint(parts...))))
	}
	var images []imageindex.Image
	for i := range 200 {
		repository := fmt.Sprintf("registry.test/team/app-%d", i)
		image := imageindex.Image{Digest: digest("image", i), Names: []string{repository, repository + ":v1"}}
		for l := range 10 {
			image.Layers = append(image.Layers, imageindex.Layer{Digest: digest("layer", i, l), Bytes: int64(l+1) * 7_654_321})
		}
		images = append(images, image)
	}
	raw, err := json.Marshal(profile.StatusOf(profile.Facts{Images: images}, v1alpha1.NodeProfileStatus{}, now).ImageIndex)
	if err != nil {
		t.Fatal(err)
	}
	if t.Logf("%d bytes", len(raw)); len(raw) > 16<<10 {
		t.Errorf("the index takes %d bytes, want at most %d", len(raw), 16<<10)
	}
}
