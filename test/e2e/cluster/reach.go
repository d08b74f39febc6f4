// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
)

// APIAddress is where nodes and pods reach the API server.
func (c *Cluster) APIAddress() string { return apiAddress }

// RegistryAddress is where nodes and pods reach the registry.
func (c *Cluster) RegistryAddress() string { return registryAddress }

// RegistryDir is the host's directory of the registry's content.
func (c *Cluster) RegistryDir() string { return c.layout.registry() }

// BridgeName is the control plane's network card, on which all nodes hang.
func (c *Cluster) BridgeName() string { return bridgeName }

// Listen opens a TCP port on the control plane, which the calling process serves.
func (c *Cluster) Listen(ctx context.Context, address string) (net.Listener, error) {
	var l net.Listener
	err := c.inNetwork(func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening port %q on the control plane: %w", address, err)
	}
	return l, nil
}

// Dial connects to a TCP address from the control plane.
func (c *Cluster) Dial(ctx context.Context, address string) (net.Conn, error) {
	m, err := c.controlPlane()
	if err != nil {
		return nil, err
	}
	return dial(ctx, m, address)
}

// Dial connects to a TCP address from the node.
func (n *Node) Dial(ctx context.Context, address string) (net.Conn, error) {
	m, err := n.machine()
	if err != nil {
		return nil, err
	}
	return dial(ctx, m, address)
}

func dial(ctx context.Context, m *machine.Machine, address string) (net.Conn, error) {
	d, err := machine.NewDialer(m.NetNS())
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Dial(ctx, address)
}

func (c *Cluster) inNetwork(f func() error) error {
	m, err := c.controlPlane()
	if err != nil {
		return err
	}
	ns, err := os.Open(m.NetNS())
	if err != nil {
		return fmt.Errorf("opening the control plane's network namespace: %w", err)
	}
	defer ns.Close()
	return machine.InNetNS(ns, f)
}

// Root is the host's path to the node's root directory, below which its files and its /proc are as the node sees them. It holds until
// the node ends.
func (n *Node) Root() (string, error) {
	m, err := n.machine()
	if err != nil {
		return "", err
	}
	if !m.Alive() {
		return "", fmt.Errorf("finding the files of node %q: %w", n.Name(), ErrNotRunning)
	}
	return fmt.Sprintf("/proc/%d/root", m.PID()), nil
}
