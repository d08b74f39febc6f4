// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
)

// ErrNotRunning says that there is no such cluster.
var ErrNotRunning = errors.New("the cluster is not running")

// Names of components within the control plane's machine.
const (
	apiServerComponent = "kube-apiserver"
	registryComponent  = "registry"
)

// Cluster is a running cluster. Its methods may be called concurrently.
type Cluster struct {
	name   string
	layout layout
	state  *state
}

// Attach finds a running cluster. The error is ErrNotRunning when there is none.
func Attach(_ context.Context, name string) (*Cluster, error) {
	l, err := newLayout(name)
	if err != nil {
		return nil, err
	}
	c, err := open(name, l)
	if err != nil {
		return nil, fmt.Errorf("attaching to cluster %q: %w", name, err)
	}
	if m, err := c.controlPlane(); err != nil || !m.Alive() {
		return nil, fmt.Errorf("attaching to cluster %q: %w", name, ErrNotRunning)
	}
	return c, nil
}

func open(name string, l layout) (*Cluster, error) {
	s, err := readState(l.state())
	if err != nil {
		return nil, err
	}
	return &Cluster{name: name, layout: l, state: s}, nil
}

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.name }

// Kubeconfig is the path of a kubeconfig file with every right, usable from the host.
func (c *Cluster) Kubeconfig() string { return c.layout.kubeconfig() }

// Kubectl is the path of the kubectl of the cluster's version.
func (c *Cluster) Kubectl() string { return filepath.Join(c.state.Set.KubernetesDir, "kubectl") }

// RESTConfig has every right, and no client-side rate limit worth mentioning.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig of cluster %q: %w", c.name, err)
	}
	config.QPS, config.Burst = 200, 400
	return config, nil
}

func (c *Cluster) clientset() (kubernetes.Interface, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of cluster %q: %w", c.name, err)
	}
	return client, nil
}

// ContainerdVersion is the version that the nodes run.
func (c *Cluster) ContainerdVersion() string { return c.state.ContainerdVersion }

// APIHostAddress is the API server's address on the host.
func (c *Cluster) APIHostAddress() string { return c.state.APIHostAddress }

// RegistryHostAddress is where the host reaches the registry, by plain HTTP.
func (c *Cluster) RegistryHostAddress() string { return c.state.RegistryHostAddress }

// RegistryName is the registry's name in the cluster: the first part of the images' names.
func (c *Cluster) RegistryName() string { return registryName }

// SharedDir is a directory of the host that every node has at /mnt/shared. It stands for shared storage.
func (c *Cluster) SharedDir() string { return c.layout.shared() }

// ControlPlaneIP is an address that every node and pod reaches.
func (c *Cluster) ControlPlaneIP() string { return controlPlaneIP }

// Nodes lists the worker nodes.
func (c *Cluster) Nodes() []*Node {
	nodes := make([]*Node, c.state.Nodes)
	for i := range nodes {
		nodes[i] = &Node{cluster: c, index: i + 1}
	}
	return nodes
}

// Node finds a worker node by its name.
func (c *Cluster) Node(name string) (*Node, error) {
	for _, n := range c.Nodes() {
		if n.Name() == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("cluster %q has no node %q", c.name, name)
}

func (c *Cluster) controlPlane() (*machine.Machine, error) {
	return machine.Open(c.layout.machine(controlPlaneName))
}

// ControlPlaneLogTail is the end of the log of a component of the control plane.
func (c *Cluster) ControlPlaneLogTail(component string, lines int) string {
	return machine.Tail(filepath.Join(c.layout.machine(controlPlaneName), "log", component+".log"), lines)
}

// StopRegistry ends the registry's process; its content stays.
func (c *Cluster) StopRegistry(ctx context.Context) error {
	m, err := c.controlPlane()
	if err != nil {
		return err
	}
	return m.StopComponent(ctx, registryComponent)
}

// StartRegistry starts the registry after StopRegistry and returns when it serves.
func (c *Cluster) StartRegistry(ctx context.Context) error {
	m, err := c.controlPlane()
	if err != nil {
		return err
	}
	if err := m.StartComponent(ctx, registryComponent); err != nil {
		return err
	}
	return waitRegistry(ctx, c.RegistryHostAddress())
}

// Forward opens an address on the host's loopback that leads to a TCP address in the cluster's network, until stop is
// called or ctx ends.
func (c *Cluster) Forward(ctx context.Context, addrInClusterNet string) (hostAddr string, stop func(), err error) {
	m, err := c.controlPlane()
	if err != nil {
		return "", nil, err
	}
	dialer, err := machine.NewDialer(m.NetNS())
	if err != nil {
		return "", nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		_ = dialer.Close()
		return "", nil, fmt.Errorf("opening a port for %q: %w", addrInClusterNet, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = machine.Forward(ctx, l, dialer, addrInClusterNet)
		_ = dialer.Close()
	}()
	return l.Addr().String(), func() { cancel(); <-done }, nil
}
