// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
)

// The network is the same in every cluster: each has a network namespace of its own.
const (
	bridgeName       = "cluster0"
	controlPlaneName = "control-plane"
	controlPlaneIP   = "10.77.0.1"
	networkBits      = "/16"
	podNetwork       = "10.244.0.0/16"
	serviceNetwork   = "10.96.0.0/16"
	apiServiceIP     = "10.96.0.1"
	dnsServiceIP     = "10.96.0.10"
	clusterDomain    = "cluster.local"
	apiPort          = 6443
	registryHost     = "registry.local"
	registryPort     = 5000
	// pauseRepository is the image of every pod's sandbox.
	pauseRepository = "cryopod/pause:1"
)

// StateVariable names the environment variable that moves the clusters' state elsewhere.
const StateVariable = "CRYOPOD_CLUSTER_DIR"

const defaultStateDir = "/var/lib/cryopod-cluster"

var (
	apiAddress      = fmt.Sprintf("%s:%d", controlPlaneIP, apiPort)
	registryAddress = fmt.Sprintf("%s:%d", controlPlaneIP, registryPort)
	registryName    = fmt.Sprintf("%s:%d", registryHost, registryPort)
)

func nodeName(i int) string     { return fmt.Sprintf("node-%d", i) }
func nodeIP(i int) string       { return fmt.Sprintf("10.77.1.%d", i) }
func podCIDR(i int) string      { return fmt.Sprintf("10.244.%d.0/24", i) }
func portName(i int) string     { return fmt.Sprintf("port-%d", i) }
func serverURL(a string) string { return "https://" + a }

// layout names the files of a cluster.
type layout struct {
	// base holds all clusters, dir this one.
	base, dir string
}

func newLayout(name string) (layout, error) {
	if err := validateName(name); err != nil {
		return layout{}, err
	}
	base := os.Getenv(StateVariable)
	if base == "" {
		base = defaultStateDir
	}
	base, err := filepath.Abs(base)
	if err != nil {
		return layout{}, fmt.Errorf("finding the state directory: %w", err)
	}
	return layout{base: base, dir: filepath.Join(base, name)}, nil
}

// lock is outside of dir, which Down removes.
func (l layout) lock() string { return l.dir + ".lock" }

func (l layout) state() string                { return filepath.Join(l.dir, "state.json") }
func (l layout) kubeconfig() string           { return filepath.Join(l.dir, "kubeconfig") }
func (l layout) bin() string                  { return filepath.Join(l.dir, "bin") }
func (l layout) shared() string               { return filepath.Join(l.dir, "shared") }
func (l layout) registry() string             { return filepath.Join(l.dir, "registry") }
func (l layout) processes() string            { return filepath.Join(l.dir, "processes") }
func (l layout) logs() string                 { return filepath.Join(l.dir, "log") }
func (l layout) machine(name string) string   { return filepath.Join(l.dir, "machines", name) }
func (l layout) secrets(name string) string   { return filepath.Join(l.dir, "secrets", name) }
func (l layout) disk(name, sub string) string { return filepath.Join(l.machine(name), "disk", sub) }
