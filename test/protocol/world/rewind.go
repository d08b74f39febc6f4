// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/agent/rewind"
)

// rewinds are the pauses after which an agent looks for restored containers once one was started, as production's does.
var rewinds = []time.Duration{0, 100 * time.Millisecond, 2100 * time.Millisecond}

// rewind has the node's agent look for restored containers: production's, on a node that is not real.
func (w *World) rewind(n *Node) {
	p := w.procs["rewinder "+n.name]
	if p == nil {
		p = w.newProc("rewinder "+n.name, clientFaults, false)
	}
	r := &rewind.Rewinder{Prefix: "registry", Containers: images{p, n}, Images: images{p, n}, Tasks: images{p, n}, Clock: p.clock}
	for _, after := range rewinds {
		w.at(time.Now().Add(after), func() { go func() { _, _ = r.Sweep(p.ctx) }() })
	}
}

// images are the node's containers and images as the runtime shows them.
type images struct {
	p *Proc
	n *Node
}

// ListContainers implements rewind.Containers.
func (i images) ListContainers(context.Context, *runtimeapi.ListContainersRequest) ([]*runtimeapi.Container, error) {
	var out []*runtimeapi.Container
	for _, c := range i.n.containers {
		if !c.restored || c.state == fence.Frozen {
			continue
		}
		state := runtimeapi.ContainerState_CONTAINER_RUNNING
		if c.state == fence.Gone {
			state = runtimeapi.ContainerState_CONTAINER_EXITED
		}
		out = append(out, &runtimeapi.Container{Id: c.id, ImageRef: baseDigest, State: state, Annotations: map[string]string{
			"restored": "true", "checkpointImage": c.image,
		}})
	}
	return out, nil
}

// KillStray implements rewind.Tasks. What containerd itself loses is not in this world.
func (images) KillStray(context.Context, string, string) (killed, over bool, err error) {
	return false, true, nil
}

// Repoint implements rewind.Images.
func (i images) Repoint(ctx context.Context, name, _ string) (bool, error) {
	if i.n.repointed[name] {
		return false, nil
	}
	return true, i.p.do(ctx, node, "lets "+name+" stand for the base image", func() error {
		i.n.repointed[name] = true
		return nil
	})
}
