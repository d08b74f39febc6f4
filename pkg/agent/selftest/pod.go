// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// containerName is the name of the test's containers in the agent's pod.
const containerName = "selftest"

// The labels by which the kubelet knows its containers (kubernetes pkg/kubelet/types/labels.go).
const (
	labelPodName       = "io.kubernetes.pod.name"
	labelPodNamespace  = "io.kubernetes.pod.namespace"
	labelPodUID        = "io.kubernetes.pod.uid"
	labelContainerName = "io.kubernetes.container.name"
)

// Self is the agent's own pod and container.
type Self struct {
	// Namespace, Pod and PodUID are the pod.
	Namespace, Pod, PodUID string
	// Container is the name of the agent's container in it.
	Container string
}

// home is where the test's containers live: the agent's own sandbox. The kubelet kills containers of pods that it does not know,
// but leaves alone one of a known pod that is not in its specification (kubernetes pkg/kubelet/kuberuntime, computePodActions).
type home struct {
	sandbox string
	config  *runtimeapi.PodSandboxConfig
	// agent is the ID of the agent's own container, image that of its image.
	agent, image string
}

func (t *Tester) findHome(ctx context.Context) (*home, error) {
	ready := &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}
	pods, err := t.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{
		State: ready, LabelSelector: map[string]string{labelPodUID: t.Self.PodUID},
	}})
	if err != nil {
		return nil, fmt.Errorf("finding the agent's own sandbox: %w", err)
	}
	if len(pods.GetItems()) != 1 {
		return nil, fmt.Errorf("finding the agent's own sandbox: %d of pod UID %q", len(pods.GetItems()), t.Self.PodUID)
	}
	h := &home{sandbox: pods.GetItems()[0].GetId()}
	if h.config, err = t.sandboxConfig(ctx, h.sandbox); err != nil {
		return nil, err
	}
	containers, err := t.list(ctx, h.sandbox, t.Self.Container)
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		if c.GetState() == runtimeapi.ContainerState_CONTAINER_RUNNING {
			h.agent, h.image = c.GetId(), c.GetImageId()
			if h.image == "" {
				h.image = c.GetImageRef()
			}
			return h, nil
		}
	}
	return nil, fmt.Errorf("finding the agent's own container: none named %q runs in its pod", t.Self.Container)
}

// sandboxConfig returns what the kubelet made a sandbox from, as containerd keeps it.
func (t *Tester) sandboxConfig(ctx context.Context, id string) (*runtimeapi.PodSandboxConfig, error) {
	status, err := t.Runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true})
	if err != nil {
		return nil, fmt.Errorf("reading the agent's own sandbox: %w", err)
	}
	var info struct {
		Config *runtimeapi.PodSandboxConfig `json:"config"`
	}
	if err := json.Unmarshal([]byte(status.GetInfo()["info"]), &info); err != nil || info.Config == nil {
		return nil, errors.Join(errors.New("reading the agent's own sandbox: the runtime does not tell its configuration"), err)
	}
	return info.Config, nil
}

func (t *Tester) list(ctx context.Context, sandbox, name string) ([]*runtimeapi.Container, error) {
	answer, err := t.Runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{
		PodSandboxId: sandbox, LabelSelector: map[string]string{labelContainerName: name},
	}})
	if err != nil {
		return nil, fmt.Errorf("listing containers %q of the agent's own pod: %w", name, err)
	}
	return answer.GetContainers(), nil
}

// start creates and starts a container of the test from an image.
func (t *Tester) start(ctx context.Context, h *home, image string) (string, error) {
	of := h.config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	namespaces := &runtimeapi.NamespaceOption{
		Network: of.GetNetwork(), Ipc: of.GetIpc(), Pid: runtimeapi.NamespaceMode_CONTAINER, UsernsOptions: of.GetUsernsOptions(),
	}
	created, err := t.Runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId:  h.sandbox,
		SandboxConfig: h.config,
		Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: containerName},
			Image:    &runtimeapi.ImageSpec{Image: image},
			Command:  []string{t.Executable, ProcessCommand},
			Labels: map[string]string{
				labelPodName: t.Self.Pod, labelPodNamespace: t.Self.Namespace, labelPodUID: t.Self.PodUID, labelContainerName: containerName,
			},
			Annotations: map[string]string{
				"io.kubernetes.container.hash": "0", "io.kubernetes.container.restartCount": "0",
			},
			Linux: &runtimeapi.LinuxContainerConfig{
				Resources: &runtimeapi.LinuxContainerResources{},
				SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
					NamespaceOptions: namespaces,
					RunAsUser:        &runtimeapi.Int64Value{Value: 0},
					NoNewPrivs:       true,
					Capabilities:     &runtimeapi.Capability{DropCapabilities: []string{"ALL"}},
					Seccomp:          &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
				},
			},
		},
	})
	if err != nil {
		return "", fmt.Errorf("creating a container: %w", err)
	}
	id := created.GetContainerId()
	if _, err := t.Runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		return id, fmt.Errorf("starting a container: %w", err)
	}
	return id, nil
}

// sweep removes every container of the test, this life's and a former one's.
func (t *Tester) sweep(ctx context.Context, h *home) error {
	all, err := t.list(ctx, h.sandbox, containerName)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, t.remove(ctx, c.GetId()))
	}
	return errors.Join(errs...)
}

// remove ends a container of the test, also one that is frozen.
func (t *Tester) remove(ctx context.Context, id string) error {
	if err := t.Fence.Thaw(ctx, id); err != nil {
		return err
	}
	if _, err := t.Runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id}); err != nil {
		return fmt.Errorf("stopping container %q: %w", id, err)
	}
	if _, err := t.Runtime.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		return fmt.Errorf("removing container %q: %w", id, err)
	}
	return nil
}
