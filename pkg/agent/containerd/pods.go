// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// ContainerTopics selects the events of containers that are made, pods' sandboxes among them.
const ContainerTopics = `topic=="/containers/create"`

// The labels that the kubelet gives to sandboxes and containers (k8s.io/cri-client/pkg/types).
const (
	labelPodName      = "io.kubernetes.pod.name"
	labelPodNamespace = "io.kubernetes.pod.namespace"
	labelPodUID       = "io.kubernetes.pod.uid"
)

// sandboxes selects the containers that are pods' sandboxes (containerd internal/cri/labels).
const sandboxes = `labels."io.cri-containerd.kind"==sandbox`

// Pod is a pod of the node as the CRI knows it.
type Pod struct {
	// UID, Namespace and Name are the pod's.
	UID             types.UID
	Namespace, Name string
	// Annotations are those that the pod had when it was started.
	Annotations map[string]string
}

// Start is a pod whose sandbox was made.
type Start struct {
	// UID, Namespace and Name are the pod's.
	UID             types.UID
	Namespace, Name string
	// Time is when its sandbox was made; it need not run yet.
	Time time.Time
}

// Restoring lists the pods of the node that were made to be restored, from the moment on that their sandboxes are made: before the CRI knows
// them, and before the kubelet pulls anything for them.
func (c *Client) Restoring(ctx context.Context) ([]Start, error) {
	all, err := c.client.ContainerService().List(ctx, sandboxes+`,labels."`+v1alpha1.LabelRestoring+`"==true`)
	if err != nil {
		return nil, fmt.Errorf("listing the sandboxes of pods that are restored: %w", err)
	}
	starts := make([]Start, 0, len(all))
	for _, s := range all {
		starts = append(starts, Start{
			UID: types.UID(s.Labels[labelPodUID]), Namespace: s.Labels[labelPodNamespace], Name: s.Labels[labelPodName], Time: s.CreatedAt,
		})
	}
	return starts, nil
}

// EnabledPods lists the pods of the node that are opted in and not ended: those whose sandbox runs and has the label that the webhook
// gave the pod. The kubelet hands a pod's labels and annotations on to its sandbox, so that nobody has to ask the API server.
func (c *Client) EnabledPods(ctx context.Context) ([]Pod, error) {
	answer, err := c.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{
		State:         &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
		LabelSelector: map[string]string{v1alpha1.LabelEnabled: "true"},
	}})
	if err != nil {
		return nil, fmt.Errorf("asking the runtime for its sandboxes: %w", err)
	}
	pods := make([]Pod, 0, len(answer.GetItems()))
	for _, s := range answer.GetItems() {
		pods = append(pods, Pod{
			UID: types.UID(s.GetLabels()[labelPodUID]), Namespace: s.GetLabels()[labelPodNamespace], Name: s.GetLabels()[labelPodName],
			Annotations: s.GetAnnotations(),
		})
	}
	return pods, nil
}

// Running implements source.Processes: containers of whatever state the API server's pod has, if it has one.
func (c *Client) Running(ctx context.Context, pod types.UID) ([]fence.Container, error) {
	answer, err := c.Runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{
		State:         &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING},
		LabelSelector: map[string]string{labelPodUID: string(pod)},
	}})
	if err != nil {
		return nil, fmt.Errorf("asking the runtime for the containers of the pod with UID %q: %w", pod, err)
	}
	var running []fence.Container
	for _, found := range answer.GetContainers() {
		running = append(running, fence.Container{Name: found.GetMetadata().GetName(), ID: found.GetId()})
	}
	return running, nil
}

// MemoryInUse tells how many bytes of memory each pod of the node works with, as the CRI counts them.
func (c *Client) MemoryInUse(ctx context.Context) (map[types.UID]int64, error) {
	answer, err := c.Runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
	if err != nil {
		return nil, fmt.Errorf("asking the runtime for its containers' memory: %w", err)
	}
	used := map[types.UID]int64{}
	for _, s := range answer.GetStats() {
		used[types.UID(s.GetAttributes().GetLabels()[labelPodUID])] += int64(s.GetMemory().GetWorkingSetBytes().GetValue())
	}
	return used, nil
}
