// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"fmt"
	"math"
	"strings"

	cgroupv1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroupv2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// AnonymousMemory is how much memory of a container would be dumped, in bytes: what its processes hold that no file backs. The page cache is
// not part of it; CRIU does not save it.
func (c *Client) AnonymousMemory(ctx context.Context, id string) (int64, error) {
	answer, err := c.client.TaskService().Metrics(ctx, &tasks.MetricsRequest{Filters: []string{"id==" + id}})
	if err != nil {
		return 0, fmt.Errorf("reading the memory of task %q: %w", id, errgrpc.ToNative(err))
	}
	for _, m := range answer.GetMetrics() {
		if m.GetID() != id {
			continue
		}
		bytes, err := dumped(m.GetData())
		if err != nil {
			return 0, fmt.Errorf("reading the memory of task %q: %w", id, err)
		}
		return bytes, nil
	}
	return 0, fmt.Errorf("reading the memory of task %q: containerd has no metrics of it", id)
}

// dumped reads what the shim reports of its cgroup, of either version.
func dumped(data *anypb.Any) (int64, error) {
	switch kind := data.GetTypeUrl(); {
	case strings.HasSuffix(kind, "io.containerd.cgroups.v2.Metrics"):
		m := &cgroupv2.Metrics{}
		if err := proto.Unmarshal(data.GetValue(), m); err != nil {
			return 0, fmt.Errorf("decoding %q: %w", kind, err)
		}
		// Swapped-out pages are read back and dumped like the others.
		return sum(m.GetMemory().GetAnon(), m.GetMemory().GetShmem(), m.GetMemory().GetSwapUsage()), nil
	case strings.HasSuffix(kind, "io.containerd.cgroups.v1.Metrics"):
		m := &cgroupv1.Metrics{}
		if err := proto.Unmarshal(data.GetValue(), m); err != nil {
			return 0, fmt.Errorf("decoding %q: %w", kind, err)
		}
		return sum(m.GetMemory().GetTotalRSS()), nil
	default:
		return 0, fmt.Errorf("metrics of kind %q are not known", kind)
	}
}

// sum is at most what an int64 holds.
func sum(bytes ...uint64) int64 {
	var all uint64
	for _, n := range bytes {
		all += min(n, math.MaxInt64-all)
	}
	return int64(all)
}
