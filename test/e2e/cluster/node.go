// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
)

// Node is a worker node. Its methods may be called concurrently.
type Node struct {
	cluster *Cluster
	index   int
}

// Name is the node's name in the cluster.
func (n *Node) Name() string { return nodeName(n.index) }

// PodCIDR is the range of the addresses of the node's pods.
func (n *Node) PodCIDR() string { return podCIDR(n.index) }

// IP is the node's address in the cluster's network.
func (n *Node) IP() string { return nodeIP(n.index) }

// Port is the network card of the control plane's machine through which all comes that is sent to the node.
func (n *Node) Port() string { return portName(n.index) }

func (n *Node) machine() (*machine.Machine, error) {
	return machine.Open(n.cluster.layout.machine(n.Name()))
}

// Exec runs a program in the node's namespaces and returns what it wrote. The error holds that, too.
func (n *Node) Exec(ctx context.Context, argv ...string) ([]byte, error) {
	m, err := n.machine()
	if err != nil {
		return nil, err
	}
	out, err := m.Command(ctx, argv...).CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("running %q on node %q: %w: %s", argv, n.Name(), err, out)
	}
	return out, nil
}

// Kill ends the node as a power cut does: all processes are gone at once, the disk stays.
func (n *Node) Kill(ctx context.Context) error {
	m, err := n.machine()
	if err != nil {
		return err
	}
	return m.Kill(ctx)
}

// Start brings a killed node back and returns when the API server sees it ready. A running node is left alone.
func (n *Node) Start(ctx context.Context) error {
	m, err := n.machine()
	if err != nil {
		return err
	}
	if m.Alive() {
		return nil
	}
	owner, err := n.cluster.controlPlane()
	if err != nil {
		return err
	}
	client, err := n.cluster.clientset()
	if err != nil {
		return err
	}
	began := time.Now()
	m, err = machine.Start(filepath.Join(n.cluster.layout.bin(), helperName), m.Spec, owner)
	if err != nil {
		return err
	}
	return watched(ctx, []*machine.Machine{m}, func(ctx context.Context) error {
		return waitNodeReady(ctx, client, n.Name(), began)
	})
}

// Freeze stops all processes of the node; the network stays.
func (n *Node) Freeze(ctx context.Context) error {
	m, err := n.machine()
	if err != nil {
		return err
	}
	return m.Freeze(ctx)
}

// Thaw lets a frozen node go on.
func (n *Node) Thaw(ctx context.Context) error {
	m, err := n.machine()
	if err != nil {
		return err
	}
	return m.Thaw(ctx)
}

// CutOff takes the node off the network; its processes go on.
func (n *Node) CutOff(context.Context) error { return n.plug(false) }

// Reconnect undoes CutOff.
func (n *Node) Reconnect(context.Context) error { return n.plug(true) }

func (n *Node) plug(in bool) error {
	owner, err := n.cluster.controlPlane()
	if err != nil {
		return err
	}
	return owner.SetPort(portName(n.index), in)
}

// RestartRuntime restarts containerd and returns when it answers. Containers go on.
func (n *Node) RestartRuntime(ctx context.Context) error {
	if err := n.restart(ctx, "containerd"); err != nil {
		return err
	}
	var last error
	err := until(ctx, "containerd to answer", func() bool {
		_, last = n.Exec(ctx, "ctr", "--connect-timeout=1s", "version")
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("restarting containerd on node %q: %w: %w", n.Name(), err, last)
	}
	return nil
}

// RestartKubelet restarts the kubelet and returns when it has reported to the API server. Containers go on.
func (n *Node) RestartKubelet(ctx context.Context) error {
	client, err := n.cluster.clientset()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := n.restart(ctx, "kubelet"); err != nil {
		return err
	}
	return waitNodeReady(ctx, client, n.Name(), began)
}

func (n *Node) restart(ctx context.Context, component string) error {
	m, err := n.machine()
	if err != nil {
		return err
	}
	return m.RestartComponent(ctx, component)
}

// Running tells whether the node has its processes.
func (n *Node) Running() bool {
	m, err := n.machine()
	return err == nil && m.Alive()
}

// Status lists the node's own programs.
func (n *Node) Status(ctx context.Context) ([]machine.ComponentStatus, error) {
	m, err := n.machine()
	if err != nil {
		return nil, err
	}
	return m.Status(ctx)
}

// LogTail is the end of the log of containerd, kubelet, kube-proxy or init.
func (n *Node) LogTail(component string, lines int) string {
	m, err := n.machine()
	if err != nil {
		return ""
	}
	return m.LogTail(component, lines)
}
