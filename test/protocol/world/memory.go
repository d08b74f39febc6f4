// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/agent/fence"
)

// tick is how long a process takes for a step.
const tick = 100 * time.Millisecond

// Memory is what a process is: it begins with a cold start, and goes on in each process that is restored from it. Whoever saw its steps from
// outside knows how far it came.
type Memory struct {
	name     string
	furthest int64
}

// Container is one container on a node.
type Container struct {
	id, name string
	node     string
	pod      string
	podUID   types.UID
	image    string
	mem      *Memory
	state    fence.State
	restored bool
	steps    int64     // until since
	since    time.Time // when it was started or thawed
	started  time.Time
	restarts int32
}

// at is how many steps the process has done: a process that is let go on does one at once.
func (c *Container) at() int64 {
	if c.state != fence.Running {
		return c.steps
	}
	return c.steps + 1 + int64(time.Since(c.since)/tick)
}

// become puts the container's processes into a state.
func (c *Container) become(s fence.State) {
	c.steps = c.at()
	c.mem.furthest = max(c.mem.furthest, c.steps)
	c.state, c.since = s, time.Now()
}

// Image is a checkpoint in the registry.
type Image struct {
	tag      string
	mem      *Memory
	step     int64
	complete bool
	fenced   bool
	torn     bool // a container of the pod ran while another was dumped
}

// archive is a checkpoint on a node's disk.
type archive struct {
	mem  *Memory
	step int64
	torn bool
}

// Node is a machine: its containers, its archives, and what names of images stand for.
type Node struct {
	name       string
	containers []*Container
	archives   map[string]*archive
	repointed  map[string]bool // checkpoint images whose name stands for the base image here
	ledger     []byte
	cut        time.Time // cut off from the API server until then
	off        bool      // its power is cut
}

func (n *Node) find(id string) *Container {
	i := slices.IndexFunc(n.containers, func(c *Container) bool { return c.id == id })
	if i < 0 {
		return nil
	}
	return n.containers[i]
}

// of are the newest containers of the pod, by name.
func (n *Node) of(pod types.UID) map[string]*Container {
	out := map[string]*Container{}
	for _, c := range n.containers {
		if c.podUID == pod {
			out[c.name] = c
		}
	}
	return out
}

// start starts a process in a new container, cold or from a checkpoint's image.
func (w *World) start(n *Node, c *Container, from *Image) {
	w.ids++
	c.id, c.node = fmt.Sprintf("c%d", w.ids), n.name
	if from == nil {
		w.memories++
		c.mem = &Memory{name: fmt.Sprintf("memory %d", w.memories)}
	} else {
		w.restoring(from)
		c.mem, c.steps, c.restored = from.mem, from.step, true
	}
	c.state, c.since, c.started = fence.Running, time.Now(), time.Now()
	n.containers = append(n.containers, c)
	if from != nil {
		w.rewind(n)
	}
}

// restoring checks that a process may start from the image.
func (w *World) restoring(from *Image) {
	came := from.mem.furthest
	for _, n := range w.nodes {
		for _, c := range n.containers {
			if c.mem == from.mem && c.state == fence.Running {
				came = max(came, c.at())
			}
		}
	}
	switch {
	case !from.complete:
		w.violate(NoPartialImage, "a process starts from %s, which is not complete", from.tag)
	case from.torn:
		w.violate(NoPartialImage, "a process starts from %s, which was saved while another container of its pod ran", from.tag)
	case from.fenced && came > from.step:
		w.violate(OneLiveCopy, "a process starts from %s at step %d, and %s was at step %d already", from.tag, from.step, from.mem.name, came)
	}
}

// alive are the containers whose processes run, by memory.
func (w *World) alive() map[*Memory][]*Container {
	out := map[*Memory][]*Container{}
	for _, n := range w.nodes {
		for _, c := range n.containers {
			if c.state == fence.Running {
				out[c.mem] = append(out[c.mem], c)
			}
		}
	}
	return out
}

func (c *Container) String() string {
	return fmt.Sprintf("container %s of pod %s on %s", strings.TrimPrefix(c.id, "c"), c.pod, c.node)
}
