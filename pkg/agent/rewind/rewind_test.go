// SPDX-License-Identifier: Apache-2.0

package rewind_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cryopod/cryopod/pkg/agent/rewind"
)

type node struct {
	containers []*runtimeapi.Container
	repointed  [][2]string
	failure    error
}

func (n *node) ListContainers(_ context.Context, in *runtimeapi.ListContainersRequest) ([]*runtimeapi.Container, error) {
	if in.GetFilter().GetState().GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil, errors.New("containers that do not run were asked for")
	}
	return n.containers, nil
}

func (n *node) Repoint(_ context.Context, name, baseID string) (bool, error) {
	n.repointed = append(n.repointed, [2]string{name, baseID})
	return true, n.failure
}

func restored(name string) *runtimeapi.Container {
	return &runtimeapi.Container{ImageRef: "sha256:base", Annotations: map[string]string{"restored": "true", "checkpointImage": name}}
}

func TestSweep(t *testing.T) {
	tests := map[string]struct {
		containers []*runtimeapi.Container
		want       [][2]string
	}{
		"restored by us":        {[]*runtimeapi.Container{restored("reg/checkpoints/ns:pc.app")}, [][2]string{{"reg/checkpoints/ns:pc.app", "sha256:base"}}},
		"restored by others":    {[]*runtimeapi.Container{restored("reg/forensics/x:1"), restored("reg/checkpoints-of-others/ns:pc.app")}, nil},
		"restored from a file":  {[]*runtimeapi.Container{restored("/var/lib/kubelet/checkpoints/x.tar")}, nil},
		"an ordinary container": {[]*runtimeapi.Container{{ImageRef: "sha256:base"}}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := &node{containers: tc.containers}
			r := &rewind.Rewinder{Prefix: "reg/checkpoints", Containers: n, Images: n}
			if err := r.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, n.repointed); diff != "" {
				t.Errorf("repointed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSweepTellsOfAFailure(t *testing.T) {
	n := &node{containers: []*runtimeapi.Container{restored("reg/checkpoints/ns:pc.app")}, failure: errors.New("away")}
	if err := (&rewind.Rewinder{Prefix: "reg/checkpoints", Containers: n, Images: n}).Sweep(t.Context()); !errors.Is(err, n.failure) {
		t.Errorf("Sweep = %v, want the failure", err)
	}
}
