// SPDX-License-Identifier: Apache-2.0

package containerd_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
)

// runtime has two sandboxes that run and one that ended, and filters as the CRI says.
type runtime struct {
	runtimeapi.RuntimeServiceClient
}

func labels(uid, enabled string) map[string]string {
	l := map[string]string{"io.kubernetes.pod.uid": uid, "io.kubernetes.pod.namespace": "ns", "io.kubernetes.pod.name": "pod-" + uid}
	if enabled != "" {
		l["checkpoint.io/enabled"] = enabled
	}
	return l
}

func (runtime) ListPodSandbox(
	_ context.Context, in *runtimeapi.ListPodSandboxRequest, _ ...grpc.CallOption,
) (*runtimeapi.ListPodSandboxResponse, error) {
	ready, ended := runtimeapi.PodSandboxState_SANDBOX_READY, runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	all := []*runtimeapi.PodSandbox{
		{Labels: labels("1", "true"), State: ready, Annotations: map[string]string{"checkpoint.io/on": "eviction"}},
		{Labels: labels("2", ""), State: ready},
		{Labels: labels("3", "true"), State: ended},
	}
	answer := &runtimeapi.ListPodSandboxResponse{}
	for _, s := range all {
		fits := in.GetFilter().GetState() == nil || in.GetFilter().GetState().GetState() == s.GetState()
		for k, v := range in.GetFilter().GetLabelSelector() {
			fits = fits && s.GetLabels()[k] == v
		}
		if fits {
			answer.Items = append(answer.Items, s)
		}
	}
	return answer, nil
}

func (runtime) ListContainerStats(
	context.Context, *runtimeapi.ListContainerStatsRequest, ...grpc.CallOption,
) (*runtimeapi.ListContainerStatsResponse, error) {
	stats := func(uid string, bytes uint64) *runtimeapi.ContainerStats {
		return &runtimeapi.ContainerStats{
			Attributes: &runtimeapi.ContainerAttributes{Labels: labels(uid, "")},
			Memory:     &runtimeapi.MemoryUsage{WorkingSetBytes: &runtimeapi.UInt64Value{Value: bytes}},
		}
	}
	return &runtimeapi.ListContainerStatsResponse{Stats: []*runtimeapi.ContainerStats{stats("1", 1), stats("2", 10), stats("1", 100), {}}}, nil
}

func TestEnabledPods(t *testing.T) {
	got, err := (&containerd.Client{Runtime: runtime{}}).EnabledPods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []containerd.Pod{{UID: "1", Namespace: "ns", Name: "pod-1", Annotations: map[string]string{"checkpoint.io/on": "eviction"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
}

func TestMemoryInUse(t *testing.T) {
	got, err := (&containerd.Client{Runtime: runtime{}}).MemoryInUse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[types.UID]int64{"1": 101, "2": 10, "": 0}, got); diff != "" {
		t.Errorf("memory (-want +got):\n%s", diff)
	}
}
