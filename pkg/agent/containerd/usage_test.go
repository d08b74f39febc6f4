// SPDX-License-Identifier: Apache-2.0

package containerd_test

import (
	"testing"

	cgroupv1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroupv2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
)

func TestDumped(t *testing.T) {
	pack := func(kind string, m proto.Message) *anypb.Any {
		raw, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return &anypb.Any{TypeUrl: kind, Value: raw}
	}
	tests := map[string]struct {
		data *anypb.Any
		want int64
		ok   bool
	}{
		"version 2": {pack("io.containerd.cgroups.v2.Metrics", &cgroupv2.Metrics{
			Memory: &cgroupv2.MemoryStat{Anon: 5, Shmem: 2, SwapUsage: 1, File: 100, Usage: 200},
		}), 8, true},
		"version 1": {pack("io.containerd.cgroups.v1.Metrics", &cgroupv1.Metrics{
			Memory: &cgroupv1.MemoryStat{TotalRSS: 7, TotalCache: 100, Usage: &cgroupv1.MemoryEntry{Usage: 200}},
		}), 7, true},
		"Windows":      {pack("io.containerd.windows.v1.Metrics", &cgroupv1.Metrics{}), 0, false},
		"not readable": {&anypb.Any{TypeUrl: "io.containerd.cgroups.v2.Metrics", Value: []byte{0xff}}, 0, false},
		"nothing":      {nil, 0, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := containerd.Dumped(tc.data)
			if got != tc.want || (err == nil) != tc.ok {
				t.Errorf("Dumped = %d, %v; want %d", got, err, tc.want)
			}
		})
	}
}
