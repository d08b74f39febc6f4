// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
)

// MachineStatus is a line about a machine for people.
type MachineStatus struct {
	// Name is a node's name, or control-plane.
	Name string
	// State is "Ready", "NotReady", "Stopped" or "Silent"; the last one answers nothing, as when frozen.
	State string
	// Kubelet, Runtime and Pods are a node's versions and number of pods; "-" where unknown.
	Kubelet, Runtime, Pods string
	Address                string
	// Programs are its programs, one that does not run with what became of it.
	Programs []string
}

// Started is when the cluster came up.
func (c *Cluster) Started() time.Time { return c.state.Started }

// Status describes every machine, the control plane first. Each gets the given time to answer.
func (c *Cluster) Status(ctx context.Context, patience time.Duration) ([]MachineStatus, error) {
	client, err := c.clientset()
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// A control plane that does not answer is part of the status, not a reason to show none.
	nodes, apiErr := client.CoreV1().Nodes().List(asking, metav1.ListOptions{})
	pods, podErr := client.CoreV1().Pods("").List(asking, metav1.ListOptions{})
	state := readiness(errors.Join(apiErr, podErr) == nil)
	all := []MachineStatus{c.machineStatus(ctx, controlPlaneName, controlPlaneIP, state, patience)}
	for _, n := range c.Nodes() {
		status := c.machineStatus(ctx, n.Name(), n.IP(), "NotReady", patience)
		if apiErr == nil && podErr == nil {
			describe(&status, nodes.Items, pods.Items)
		}
		all = append(all, status)
	}
	return all, nil
}

func readiness(ok bool) string {
	if ok {
		return "Ready"
	}
	return "NotReady"
}

// describe adds what the API server knows of a node.
func describe(s *MachineStatus, nodes []corev1.Node, pods []corev1.Pod) {
	for _, n := range nodes {
		if n.Name != s.Name {
			continue
		}
		s.Kubelet, s.Runtime = n.Status.NodeInfo.KubeletVersion, n.Status.NodeInfo.ContainerRuntimeVersion
		if s.State == "NotReady" {
			s.State = readiness(nodeReady(&n, time.Time{}))
		}
	}
	count := 0
	for _, p := range pods {
		if p.Spec.NodeName == s.Name {
			count++
		}
	}
	s.Pods = strconv.Itoa(count)
}

func (c *Cluster) machineStatus(ctx context.Context, name, address, state string, patience time.Duration) MachineStatus {
	s := MachineStatus{Name: name, State: state, Kubelet: "-", Runtime: "-", Pods: "-", Address: address}
	m, err := machine.Open(c.layout.machine(name))
	if err != nil || !m.Alive() {
		s.State = "Stopped"
		return s
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	components, err := m.Status(ctx)
	if err != nil {
		s.State = "Silent"
		return s
	}
	for _, p := range components {
		switch {
		case p.PID == 0 && p.Wanted:
			s.Programs = append(s.Programs, fmt.Sprintf("%s(%s)", p.Name, p.LastExit))
		case p.PID == 0:
			s.Programs = append(s.Programs, p.Name+"(stopped)")
		default:
			s.Programs = append(s.Programs, p.Name)
		}
	}
	return s
}

// Command prepares a program in the namespaces of a node or of "control-plane".
func (c *Cluster) Command(ctx context.Context, machineName string, argv ...string) (*exec.Cmd, error) {
	m, err := machine.Open(c.layout.machine(machineName))
	if err != nil {
		return nil, fmt.Errorf("finding machine %q: %w", machineName, err)
	}
	if !m.Alive() {
		return nil, fmt.Errorf("machine %q: %w", machineName, ErrNotRunning)
	}
	return m.Command(ctx, argv...), nil
}

// LogTail is the end of the log of a component of a node or of "control-plane", also of a cluster that is down.
func LogTail(name, machineName, component string, lines int) (string, error) {
	l, err := newLayout(name)
	if err != nil {
		return "", err
	}
	m, err := machine.Open(l.machine(machineName))
	if err != nil {
		return "", fmt.Errorf("finding machine %q: %w", machineName, err)
	}
	tail := m.LogTail(component, lines)
	if tail == "" {
		return "", fmt.Errorf("%q of machine %q has logged nothing", component, machineName)
	}
	return tail, nil
}
