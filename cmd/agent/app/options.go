// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/agent/criuconf"
	"github.com/cryopod/cryopod/pkg/agent/export"
	"github.com/cryopod/cryopod/pkg/agent/pressure"
	"github.com/cryopod/cryopod/pkg/agent/shutdown"
)

// serviceAccount is where the kubelet puts the pod's ServiceAccount token and the cluster's CA.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// maxCompressWorkers bounds the default: each worker takes some 20 MiB of memory, and several containers may be exported at once.
const maxCompressWorkers = 4

// Options are the agent's flags.
type Options struct {
	NodeName string

	Registry         string
	RegistryConfig   string
	RegistryInsecure bool
	CompressWorkers  int
	MaxParallel      int
	DiskBudget       string

	KubeletAddress    string
	KubeletCA         string
	KubeletServerName string
	KubeletToken      string
	KubeletInsecure   bool

	ContainerdSocket string
	CheckpointDir    string
	StateDir         string
	CRIUConfig       string

	Prefetch bool

	SystemBus      string
	PressureMemory resource.QuantityValue

	SelfTest      bool
	PodNamespace  string
	PodName       string
	PodUID        string
	ContainerName string

	MetricsAddress string
	ProbeAddress   string
	Verbosity      int
}

// DefaultOptions returns the defaults. What the DaemonSet tells through the environment is taken from there.
func DefaultOptions() Options {
	address := ""
	if ip := os.Getenv("HOST_IP"); ip != "" {
		address = net.JoinHostPort(ip, "10250")
	}
	return Options{
		NodeName:         os.Getenv("NODE_NAME"),
		CompressWorkers:  min(runtime.GOMAXPROCS(0), maxCompressWorkers),
		MaxParallel:      2,
		DiskBudget:       "50%",
		KubeletAddress:   address,
		KubeletCA:        filepath.Join(serviceAccount, "ca.crt"),
		KubeletToken:     filepath.Join(serviceAccount, "token"),
		ContainerdSocket: containerd.DefaultSocket,
		CheckpointDir:    export.DefaultDir,
		StateDir:         "/var/lib/cryopod",
		CRIUConfig:       criuconf.DefaultPath,
		Prefetch:         true,
		SystemBus:        shutdown.DefaultSocket,
		PressureMemory:   resource.QuantityValue{Quantity: *resource.NewQuantity(pressure.DefaultThreshold, resource.BinarySI)},
		SelfTest:         true,
		PodNamespace:     os.Getenv("POD_NAMESPACE"),
		PodName:          os.Getenv("POD_NAME"),
		PodUID:           os.Getenv("POD_UID"),
		ContainerName:    "agent",
		MetricsAddress:   ":8080",
		ProbeAddress:     ":8081",
	}
}

// AddFlags registers the flags.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.NodeName, "node-name", o.NodeName, "name of the node that the agent serves (env NODE_NAME)")

	f.StringVar(&o.Registry, "registry", o.Registry,
		"where checkpoint images go: registry.example.com/path; every node must be able to pull from there")
	f.StringVar(&o.RegistryConfig, "registry-config", o.RegistryConfig,
		"directory with a Docker config.json that has the registry's credentials; empty: none. It is read again for each push")
	f.BoolVar(&o.RegistryInsecure, "registry-insecure", o.RegistryInsecure,
		"allow plain HTTP to the registry; always allowed for localhost, private addresses and names below .local")
	f.IntVar(&o.CompressWorkers, "compress-workers", o.CompressWorkers,
		"cores that compress one container's checkpoint; each takes some 20 MiB of memory")
	f.IntVar(&o.MaxParallel, "max-parallel", o.MaxParallel, "pods that are saved at the same time; further ones wait, unfrozen")
	f.StringVar(&o.DiskBudget, "disk-budget", o.DiskBudget,
		"disk that all dumps under way may take together, as a quantity (20Gi) or a part of the file system of --checkpoint-dir (50%); a dump\n"+
			"takes some four times the pod's memory, and 12 % of the file system stay free in any case")

	f.StringVar(&o.KubeletAddress, "kubelet-address", o.KubeletAddress, "host and port of this node's kubelet (default: env HOST_IP, port 10250)")
	f.StringVar(&o.KubeletCA, "kubelet-ca", o.KubeletCA,
		"file with the certificates that signed the kubelet's serving certificate, or that certificate itself")
	f.StringVar(&o.KubeletServerName, "kubelet-server-name", o.KubeletServerName,
		"name that the kubelet's certificate must be for; empty: its address. A self-signed one is for the node's name")
	f.StringVar(&o.KubeletToken, "kubelet-token", o.KubeletToken, "file with the bearer token for the kubelet")
	f.BoolVar(&o.KubeletInsecure, "kubelet-insecure-tls", o.KubeletInsecure,
		"do not verify the kubelet's certificate; whoever can take its address can then take the agent's token")

	f.StringVar(&o.ContainerdSocket, "containerd-socket", o.ContainerdSocket,
		"containerd's socket; its directory is also searched for CRIU's logs of failed dumps")
	f.StringVar(&o.CheckpointDir, "checkpoint-dir", o.CheckpointDir, "where the kubelet writes checkpoint archives")
	f.StringVar(&o.StateDir, "state-dir", o.StateDir,
		"where the agent remembers what it froze; it must have the same path on the node, and outlive the agent")
	f.StringVar(&o.CRIUConfig, "criu-config", o.CRIUConfig,
		"CRIU's options as runc reads them; written by the agent unless an administrator's file is there. Empty: left alone")

	f.BoolVar(&o.Prefetch, "prefetch", o.Prefetch,
		"fetch the checkpoints of pods that are restored on this node while the kubelet still pulls their base images,\n"+
			"with the credentials of --registry-config")

	f.StringVar(&o.SystemBus, "system-bus", o.SystemBus,
		"socket of the node's D-Bus, by which systemd-logind puts shutdowns off until pods are saved; empty: shutdowns are not watched for")
	f.Var(&o.PressureMemory, "pressure-memory",
		"when the node has less memory available, as the kubelet counts it, its largest opted-in pod moves; 0: never. "+
			"More than the kubelet's own threshold for evictions (100Mi by default)")

	f.BoolVar(&o.SelfTest, "self-test", o.SelfTest,
		"checkpoint and restore a process of the agent's own at start; without it the node is never used for a restore")
	f.StringVar(&o.PodNamespace, "pod-namespace", o.PodNamespace, "the agent's own pod's namespace, for the self-test (env POD_NAMESPACE)")
	f.StringVar(&o.PodName, "pod-name", o.PodName, "the agent's own pod's name, for the self-test (env POD_NAME)")
	f.StringVar(&o.PodUID, "pod-uid", o.PodUID, "the agent's own pod's UID, for the self-test (env POD_UID)")
	f.StringVar(&o.ContainerName, "container-name", o.ContainerName, "the agent's own container's name, for the self-test")

	f.StringVar(&o.MetricsAddress, "metrics-address", o.MetricsAddress, `where Prometheus metrics are served; "0" turns them off`)
	f.StringVar(&o.ProbeAddress, "probe-address", o.ProbeAddress, "where /healthz and /readyz are served")
	f.IntVarP(&o.Verbosity, "verbosity", "v", o.Verbosity, "how much is logged: 0 changes of state, 1 steps")
}

// prefix matches where images go: a host, maybe a port, and a path of lower-case names.
var prefix = regexp.MustCompile(`^[a-zA-Z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)

// Validate returns all that is wrong with the options; each error names its flag.
func (o *Options) Validate() error {
	var errs []error
	wrong := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--"+flag+": "+format, args...))
	}
	if o.NodeName == "" {
		wrong("node-name", "must be set, also by the environment's NODE_NAME")
	}
	if !prefix.MatchString(o.Registry) {
		wrong("registry", "must be a registry with a path, like registry.example.com/checkpoints, not %q", o.Registry)
	}
	if o.CompressWorkers < 1 {
		wrong("compress-workers", "must be at least 1, not %d", o.CompressWorkers)
	}
	if o.MaxParallel < 1 {
		wrong("max-parallel", "must be at least 1, not %d", o.MaxParallel)
	}
	if _, err := o.disk(); err != nil {
		wrong("disk-budget", "%w", err)
	}
	if _, _, err := net.SplitHostPort(o.KubeletAddress); err != nil {
		wrong("kubelet-address", "must be host:port, not %q; or set the environment's HOST_IP", o.KubeletAddress)
	}
	for flag, path := range map[string]string{
		"containerd-socket": o.ContainerdSocket, "checkpoint-dir": o.CheckpointDir, "state-dir": o.StateDir, "kubelet-token": o.KubeletToken,
	} {
		if !filepath.IsAbs(path) {
			wrong(flag, "must be an absolute path, not %q", path)
		}
	}
	if o.CRIUConfig != "" && !filepath.IsAbs(o.CRIUConfig) {
		wrong("criu-config", "must be an absolute path or empty, not %q", o.CRIUConfig)
	}
	if o.SystemBus != "" && !filepath.IsAbs(o.SystemBus) {
		wrong("system-bus", "must be an absolute path or empty, not %q", o.SystemBus)
	}
	if o.PressureMemory.Sign() < 0 {
		wrong("pressure-memory", "must not be negative, like %s", o.PressureMemory.String())
	}
	if o.SelfTest {
		for flag, value := range map[string]string{
			"pod-namespace": o.PodNamespace, "pod-name": o.PodName, "pod-uid": o.PodUID, "container-name": o.ContainerName,
		} {
			if strings.TrimSpace(value) == "" {
				wrong(flag, "must be set for the self-test; or turn it off by --self-test=false")
			}
		}
	}
	return errors.Join(errs...)
}
