// SPDX-License-Identifier: Apache-2.0

package selftest_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	fencefake "github.com/cryopod/cryopod/pkg/agent/fence/fake"
	"github.com/cryopod/cryopod/pkg/agent/selftest"
)

const agentImage = "sha256:agent"

// node is a runtime whose processes count in memory.
type node struct {
	runtimeapi.RuntimeServiceClient
	runtimeapi.ImageServiceClient
	fencefake.Fence

	mu         sync.Mutex
	containers map[string]*container
	images     map[string]string // name → nonce of the checkpoint
	next       int

	checkpointFailure, createFailure error
	// forgetful restores a process as a new one, still restores one that does not go on.
	forgetful, still bool
}

type container struct {
	name, nonce string
	count       int
	still       bool
}

func newNode() *node {
	n := &node{containers: map[string]*container{}, images: map[string]string{}}
	n.containers["agent-id"] = &container{name: "agent"}
	return n
}

func (n *node) ListPodSandbox(_ context.Context, in *runtimeapi.ListPodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.ListPodSandboxResponse, error) {
	if in.GetFilter().GetLabelSelector()["io.kubernetes.pod.uid"] != "uid" {
		return &runtimeapi.ListPodSandboxResponse{}, nil
	}
	return &runtimeapi.ListPodSandboxResponse{Items: []*runtimeapi.PodSandbox{{Id: "box"}}}, nil
}

func (n *node) PodSandboxStatus(context.Context, *runtimeapi.PodSandboxStatusRequest, ...grpc.CallOption) (*runtimeapi.PodSandboxStatusResponse, error) {
	return &runtimeapi.PodSandboxStatusResponse{Info: map[string]string{
		"info": `{"config":{"metadata":{"name":"p","uid":"uid"},"linux":{"cgroup_parent":"/kubepods/p"}}}`,
	}}, nil
}

func (n *node) ListContainers(_ context.Context, in *runtimeapi.ListContainersRequest, _ ...grpc.CallOption) (*runtimeapi.ListContainersResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	answer := &runtimeapi.ListContainersResponse{}
	for id, c := range n.containers {
		if c.name == in.GetFilter().GetLabelSelector()["io.kubernetes.container.name"] {
			answer.Containers = append(answer.Containers, &runtimeapi.Container{
				Id: id, ImageId: agentImage, State: runtimeapi.ContainerState_CONTAINER_RUNNING,
			})
		}
	}
	return answer, nil
}

func (n *node) CreateContainer(_ context.Context, in *runtimeapi.CreateContainerRequest, _ ...grpc.CallOption) (*runtimeapi.CreateContainerResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if in.GetSandboxConfig().GetLinux().GetCgroupParent() != "/kubepods/p" {
		return nil, errors.New("not in the pod's cgroup")
	}
	for id, c := range n.containers {
		if c.name == "selftest" {
			return nil, fmt.Errorf("name is reserved for %q", id)
		}
	}
	n.next++
	c := &container{name: "selftest", nonce: fmt.Sprintf("nonce%d", n.next)}
	if image := in.GetConfig().GetImage().GetImage(); image != agentImage {
		nonce, ok := n.images[image]
		if !ok {
			return nil, fmt.Errorf("image %q: not found", image)
		}
		if n.createFailure != nil {
			return nil, n.createFailure
		}
		if !n.forgetful {
			c.nonce, c.count = nonce, 1000
		}
		c.still = n.still
	}
	id := fmt.Sprintf("id-%d", n.next)
	n.containers[id] = c
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}

func (n *node) ContainerStatus(_ context.Context, in *runtimeapi.ContainerStatusRequest, _ ...grpc.CallOption) (*runtimeapi.ContainerStatusResponse, error) {
	if in.GetContainerId() != "agent-id" {
		return nil, fmt.Errorf("no container %q", in.GetContainerId())
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{
		ImageId: agentImage, ImageRef: "agent@sha256:1", Image: &runtimeapi.ImageSpec{Image: "agent:1"},
	}}, nil
}

func (n *node) StartContainer(_ context.Context, in *runtimeapi.StartContainerRequest, _ ...grpc.CallOption) (*runtimeapi.StartContainerResponse, error) {
	n.Set(in.GetContainerId(), fence.Running)
	return &runtimeapi.StartContainerResponse{}, nil
}

func (n *node) ExecSync(_ context.Context, in *runtimeapi.ExecSyncRequest, _ ...grpc.CallOption) (*runtimeapi.ExecSyncResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.containers[in.GetContainerId()]
	if !c.still {
		c.count++
	}
	return &runtimeapi.ExecSyncResponse{Stdout: fmt.Appendf(nil, "%s %d\n", c.nonce, c.count)}, nil
}

func (n *node) CheckpointContainer(_ context.Context, in *runtimeapi.CheckpointContainerRequest, _ ...grpc.CallOption) (*runtimeapi.CheckpointContainerResponse, error) {
	if n.checkpointFailure != nil {
		return nil, n.checkpointFailure
	}
	if n.Get(in.GetContainerId()) != fence.Frozen {
		return nil, errors.New("the process was not frozen first")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return &runtimeapi.CheckpointContainerResponse{}, writeArchive(in.GetLocation(), n.containers[in.GetContainerId()].nonce)
}

func writeArchive(path, nonce string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	for name, content := range map[string]string{
		"config.dump": `{"id":"x","rootfsImageRef":"agent@sha256:1","checkpointedTime":"2026-01-02T03:04:05Z"}`,
		"spec.dump":   `{"ociVersion":"1.0.0"}`, "status.dump": `{"id":"x"}`, "checkpoint/pages-1.img": nonce,
		"dump.log": "(00.000000) Version: 4.2.1 (gitid 0)\n",
	} {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content))}))
		_, failure := w.Write([]byte(content))
		err = errors.Join(err, failure)
	}
	return errors.Join(err, w.Close(), f.Close())
}

func (n *node) StopContainer(context.Context, *runtimeapi.StopContainerRequest, ...grpc.CallOption) (*runtimeapi.StopContainerResponse, error) {
	return &runtimeapi.StopContainerResponse{}, nil
}

func (n *node) RemoveContainer(_ context.Context, in *runtimeapi.RemoveContainerRequest, _ ...grpc.CallOption) (*runtimeapi.RemoveContainerResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.containers, in.GetContainerId())
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (n *node) ImageStatus(_ context.Context, in *runtimeapi.ImageStatusRequest, _ ...grpc.CallOption) (*runtimeapi.ImageStatusResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.images[in.GetImage().GetImage()]; !ok {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: &runtimeapi.Image{Id: "sha256:checkpoint"}}, nil
}

func (n *node) Load(_ context.Context, name string, img v1.Image, snapshotter string) error {
	if snapshotter != "overlayfs" {
		return fmt.Errorf("unpacked into %q", snapshotter)
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	if manifest.Annotations["org.criu.checkpoint.container.name"] == "" {
		return errors.New("not marked as a checkpoint")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.images[name] = "nonce1"
	return nil
}

func (n *node) Unload(_ context.Context, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.images, name)
	return nil
}

func (n *node) Snapshotter(context.Context, string) (string, error) { return "overlayfs", nil }

func (n *node) ImageConfig(context.Context, string) ([]byte, error) {
	return []byte(`{"os":"linux","architecture":"amd64","config":{},"rootfs":{"type":"layers","diff_ids":[]}}`), nil
}

func TestRun(t *testing.T) {
	tests := map[string]struct {
		broken   func(*node)
		version  string
		verified bool
		criu     string
		dump     string
		message  string
	}{
		"it works": {func(*node) {}, "2.3.7", true, "4.2.1", "", "checkpointed and restored"},
		"no criu": {func(n *node) {
			n.checkpointFailure = status.Error(codes.Unknown, `failed to checkpoint container "x": criu binary not found in shim path or system PATH`)
		}, "2.3.7", false, "", "criu: not installed", "criu: not installed"},
		"an old runtime": {func(n *node) {
			n.checkpointFailure = status.Error(codes.Unimplemented, "method CheckpointContainer not implemented")
		}, "1.7.0", false, "", "can't checkpoint containers", "can't checkpoint containers"},
		"restoring is off": {func(n *node) {
			n.createFailure = status.Error(codes.Unknown, "checkpoint restore via CreateContainer is disabled by configuration")
		}, "2.3.7", false, "4.2.1", "", "enable_experimental_restore_via_create = true"},
		"restoring was removed": {func(n *node) {
			n.createFailure = errors.New("stat /agent: no such file or directory")
		}, "2.4.2", false, "4.2.1", "", "2.4 removed it"},
		"restoring is not there yet": {func(n *node) {
			n.createFailure = errors.New("stat /agent: no such file or directory")
		}, "2.0.5", false, "4.2.1", "", "2.1 to 2.3 can"},
		"criu can't restore": {func(n *node) {
			n.createFailure = errors.New("runc did not terminate successfully: exit status 1: criu failed: type RESTORE errno 22 path= /x/restore.log")
		}, "2.3.7", false, "4.2.1", "", "criu: type RESTORE errno 22"},
		"it starts anew":     {func(n *node) { n.forgetful = true }, "2.3.7", false, "4.2.1", "", "started anew instead of restored"},
		"it does not go on":  {func(n *node) { n.still = true }, "2.3.7", false, "4.2.1", "", "does not go on"},
		"no pod of that UID": {func(n *node) { delete(n.containers, "agent-id") }, "2.3.7", false, "", "none named", "none named"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode()
			// What a former life left.
			n.containers["old"] = &container{name: "selftest"}
			n.images["cryopod.io/selftest:checkpoint"] = "old"
			tc.broken(n)
			dir := t.TempDir()
			tester := &selftest.Tester{
				Runtime: n, Images: n, Store: n, Fence: n, Executable: "/agent", Patience: 300 * time.Millisecond, Dir: dir, StateDir: dir,
				Self: selftest.Self{Namespace: "ns", Pod: "p", PodUID: "uid", Container: "agent"},
			}
			got := tester.Run(t.Context(), tc.version)
			if !got.Done || got.Method.Verified != tc.verified || got.CRIUVersion != tc.criu || got.CleaningFailure != nil {
				t.Errorf("Run = %+v, want verified %v by CRIU %q", got, tc.verified, tc.criu)
			}
			if !strings.Contains(got.Method.Message, tc.message) {
				t.Errorf("message %q, want %q", got.Method.Message, tc.message)
			}
			if (got.DumpFailure == "") != (tc.dump == "") || !strings.Contains(got.DumpFailure, tc.dump) {
				t.Errorf("dump failure %q, want %q", got.DumpFailure, tc.dump)
			}
			for id, c := range n.containers {
				if c.name == "selftest" && n.containers["agent-id"] != nil {
					t.Errorf("container %q is left", id)
				}
			}
			left, _ := filepath.Glob(filepath.Join(dir, "*"))
			if len(left) != 0 || len(n.images) != 0 {
				t.Errorf("files %v and images %v are left", left, n.images)
			}
		})
	}
}
