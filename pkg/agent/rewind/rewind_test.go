// SPDX-License-Identifier: Apache-2.0

package rewind_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cryopod/cryopod/pkg/agent/rewind"
)

type node struct {
	containers []*runtimeapi.Container
	strays     []string
	repointed  [][2]string
	killed     []string
	failure    error
}

func (n *node) ListContainers(context.Context, *runtimeapi.ListContainersRequest) ([]*runtimeapi.Container, error) {
	return n.containers, nil
}

func (n *node) KillStray(_ context.Context, _, id string) (killed, over bool, err error) {
	stray := slices.Contains(n.strays, id)
	if stray {
		n.killed = append(n.killed, id)
	}
	return stray, true, n.failure
}

func (n *node) Repoint(_ context.Context, name, baseID string) (bool, error) {
	n.repointed = append(n.repointed, [2]string{name, baseID})
	return true, n.failure
}

func restored(name string) *runtimeapi.Container {
	return &runtimeapi.Container{
		Id: "c1", ImageRef: "sha256:base", State: runtimeapi.ContainerState_CONTAINER_RUNNING,
		Annotations: map[string]string{"restored": "true", "checkpointImage": name},
	}
}

func in(state runtimeapi.ContainerState, c *runtimeapi.Container) *runtimeapi.Container {
	c.State = state
	return c
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
		"one that has ended": {
			[]*runtimeapi.Container{in(runtimeapi.ContainerState_CONTAINER_EXITED, restored("reg/checkpoints/ns:pc.app"))},
			[][2]string{{"reg/checkpoints/ns:pc.app", "sha256:base"}},
		},
		"one that is not started yet": {[]*runtimeapi.Container{in(runtimeapi.ContainerState_CONTAINER_CREATED, restored("reg/checkpoints/ns:pc.app"))}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := &node{containers: tc.containers}
			r := &rewind.Rewinder{Prefix: "reg/checkpoints", Containers: n, Images: n, Tasks: n}
			if _, err := r.Sweep(t.Context()); err != nil {
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
	if _, err := (&rewind.Rewinder{Prefix: "reg/checkpoints", Containers: n, Images: n, Tasks: n}).Sweep(t.Context()); !errors.Is(err, n.failure) {
		t.Errorf("Sweep = %v, want the failure", err)
	}
}

// TestSweepEndsStrays has containerd call a container exited whose processes it restored all the same.
func TestSweepEndsStrays(t *testing.T) {
	const exited = runtimeapi.ContainerState_CONTAINER_EXITED
	for name, tc := range map[string]struct {
		container *runtimeapi.Container
		strays    []string
		want      []string
	}{
		"restored by us":     {in(exited, restored("reg/checkpoints/ns:pc.app")), []string{"c1"}, []string{"c1"}},
		"restored by others": {in(exited, restored("reg/forensics/x:1")), []string{"c1"}, nil},
		"one that runs":      {restored("reg/checkpoints/ns:pc.app"), []string{"c1"}, nil},
		"one that has ended": {in(exited, restored("reg/checkpoints/ns:pc.app")), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &node{containers: []*runtimeapi.Container{tc.container}, strays: tc.strays}
				r := &rewind.Rewinder{Prefix: "reg/checkpoints", Containers: n, Images: n, Tasks: n}
				// Once is enough.
				for range 2 {
					if _, err := r.Sweep(t.Context()); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				if diff := cmp.Diff(tc.want, n.killed); diff != "" {
					t.Errorf("killed (-want +got):\n%s", diff)
				}
				if settled, err := r.Sweep(t.Context()); !settled || err != nil {
					t.Errorf("settled %t, error %v", settled, err)
				}
			})
		})
	}
}
