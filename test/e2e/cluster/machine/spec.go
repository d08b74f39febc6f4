// SPDX-License-Identifier: Apache-2.0

// Package machine runs a set of Linux namespaces that behave like a computer of its own: a root file system, a network
// card, cgroups and an init that starts, watches and restarts programs. It knows nothing of Kubernetes.
package machine

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Spec describes a machine. It is written to the machine's directory, where its init reads it.
type Spec struct {
	// Group is the directory of the cluster that the machine belongs to. Every process of the machine carries it in its
	// environment, so that leftovers can be found.
	Group string
	// Name is the host name.
	Name string
	// Dir is the machine's own directory on the host: disk, logs, control socket.
	Dir string
	// RootFS is the read-only lower layer of the root file system.
	RootFS string
	// Binds are host paths that the machine sees.
	Binds []Bind
	// OwnSettings are settings of the kernel, below /proc/sys, of which the machine gets a copy to change at will: those
	// that belong to the whole host and that its programs would change.
	OwnSettings []string
	// Files are written into the root file system at every start, over what is there.
	Files []File
	// Links are symbolic links made at every start: path to target.
	Links map[string]string
	// Network is the machine's place in the cluster's network.
	Network Network
	// Cgroups are the machine's cgroups; empty for a machine that runs no containers.
	Cgroups []Cgroup
	// Components are the programs that init keeps running.
	Components []Component
}

// Bind makes a host path visible in the machine. A directory that is missing on the host is created.
type Bind struct {
	Source   string
	Target   string
	ReadOnly bool
}

// File is a file of the machine.
type File struct {
	Path    string
	Content string
	Mode    os.FileMode // 0 means 0644
}

// Network is a machine's place in the network: either it owns the bridge, or it hangs on one by a port.
type Network struct {
	// Bridge is the bridge's name. The machine with an empty Port creates it.
	Bridge string
	// Port is the name of the machine's port on the bridge, in the network namespace of the machine that owns the bridge.
	Port string
	// Address is the machine's address with its prefix length.
	Address string
	// Gateway is the default route; empty for none.
	Gateway string
	// Routes are further routes.
	Routes []Route
}

// Route leads to a network by way of a machine.
type Route struct {
	To  string
	Via string
}

// Component is a program that init keeps running.
type Component struct {
	// Name names its log, /var/log/NAME.log in the machine.
	Name string
	Argv []string
	// Env is added to a minimal environment.
	Env []string
	// WaitFor are addresses, "tcp:HOST:PORT" or "unix:PATH", that must accept a connection before the program is started.
	WaitFor []string
}

const (
	specFile    = "spec.json"
	processFile = "process.json"
	socketFile  = "control.sock"
	logDir      = "log"
	initLog     = "init"
	// logMount is where the machine sees logDir.
	logMount = "/var/log"
)

// searchPath is the PATH of every program in a machine.
const searchPath = "/opt/kubernetes/bin:/opt/containerd/bin:/opt/bin:" +
	"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %q: %w", path, err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return nil
}

func readSpec(dir string) (*Spec, error) {
	path := filepath.Join(dir, specFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the machine's spec: %w", err)
	}
	s := &Spec{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("decoding %q: %w", path, err)
	}
	return s, nil
}
