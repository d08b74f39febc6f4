// SPDX-License-Identifier: Apache-2.0

package containerd_test

import (
	"encoding/json"
	"testing"

	cgroupv1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroupv2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
)

// FuzzDumped: whatever containerd reports of a cgroup, the memory is not negative.
func FuzzDumped(f *testing.F) {
	v2, err := proto.Marshal(&cgroupv2.Metrics{Memory: &cgroupv2.MemoryStat{Anon: 1 << 20, Shmem: 1 << 10}})
	if err != nil {
		f.Fatal(err)
	}
	huge, err := proto.Marshal(&cgroupv2.Metrics{Memory: &cgroupv2.MemoryStat{Anon: 1 << 63, Shmem: 1<<64 - 1}})
	if err != nil {
		f.Fatal(err)
	}
	v1, err := proto.Marshal(&cgroupv1.Metrics{Memory: &cgroupv1.MemoryStat{TotalRSS: 1 << 63}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("io.containerd.cgroups.v2.Metrics", v2)
	f.Add("io.containerd.cgroups.v2.Metrics", huge)
	f.Add("io.containerd.cgroups.v1.Metrics", v1)
	f.Add("x", []byte{})
	f.Fuzz(func(t *testing.T, kind string, raw []byte) {
		if n, err := containerd.Dumped(&anypb.Any{TypeUrl: kind, Value: raw}); n < 0 || err != nil && n != 0 {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// FuzzWithAuthor: an image's configuration has another author, and is the same otherwise.
func FuzzWithAuthor(f *testing.F) {
	f.Add([]byte(`{"os":"linux","config":{"User":"1"},"rootfs":{"type":"layers"}}`))
	f.Add([]byte("null"))
	f.Add([]byte(`{"author":"me","author":"you"}`))
	f.Fuzz(func(t *testing.T, config []byte) {
		got, err := containerd.WithAuthor(config)
		if err != nil {
			return
		}
		var before, after map[string]json.RawMessage
		if err := json.Unmarshal(config, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatal(err)
		}
		delete(before, "author")
		delete(after, "author")
		if len(before) != len(after) {
			t.Errorf("%s became %s", config, got)
		}
		again, err := containerd.WithAuthor(got)
		if err != nil || string(again) != string(got) {
			t.Errorf("twice is not once: %s, %v", again, err)
		}
	})
}
