// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a real Kubernetes cluster on one Linux machine: a control plane, worker nodes with their own
// kubelet, containerd and CRIU, cluster DNS and a registry. Every part lives in namespaces of its own; the host's
// network gets no interface, and Down leaves nothing behind.
package cluster

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Defaults of Options.
const (
	DefaultName              = "dev"
	DefaultNodes             = 2
	DefaultContainerdVersion = "2.3.7"
)

// maxNodes keeps node addresses and pod networks within one byte.
const maxNodes = 50

// Options say what cluster Up brings up. The zero value is a cluster named "dev" of two nodes.
type Options struct {
	// Name tells clusters apart that live side by side. Default "dev".
	Name string
	// Nodes is the number of worker nodes, named node-1, node-2, … Default 2.
	Nodes int
	// ContainerdVersion is the nodes' containerd, one of those that the toolchain builds. Default "2.3.7".
	ContainerdVersion string
	// FeatureGates are set for the API server, the controller manager, the scheduler and the kubelets.
	FeatureGates map[string]bool
	// RuntimeConfig switches versions of APIs on and off that the API server does not serve, or serves, by itself.
	RuntimeConfig map[string]bool
	// Progress gets a line for each phase with its duration; nil for silence.
	Progress io.Writer
}

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.Nodes == 0 {
		o.Nodes = DefaultNodes
	}
	if o.ContainerdVersion == "" {
		o.ContainerdVersion = DefaultContainerdVersion
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return o
}

func (o Options) validate() error {
	if err := validateName(o.Name); err != nil {
		return err
	}
	if o.Nodes < 1 || o.Nodes > maxNodes {
		return fmt.Errorf("number of nodes %d: must be 1 to %d", o.Nodes, maxNodes)
	}
	return nil
}

func validateName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("cluster name %q: must be 1 to 32 lower-case letters, digits and dashes", name)
	}
	return nil
}

// featureGates is the value of a --feature-gates flag; empty for none.
func (o Options) featureGates() string { return switches(o.FeatureGates) }

// switches is the value of a flag that switches things on and off, in the order of their names.
func switches(all map[string]bool) string {
	var values []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		values = append(values, fmt.Sprintf("%s=%t", name, all[name]))
	}
	return strings.Join(values, ",")
}
