// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
)

const (
	containerdSocket = "/run/containerd/containerd.sock"
	sharedMount      = "/mnt/shared"
)

// hostSettings are what every kubelet sets (kubernetes pkg/kubelet/cm/container_manager_linux.go), for the whole host.
var hostSettings = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// worker describes the machine of node i.
func worker(l layout, o Options, set *toolchain.Set, i int) (machine.Spec, error) {
	name := nodeName(i)
	cgroups, err := machine.DetectCgroups(l.dir, name)
	if err != nil {
		return machine.Spec{}, fmt.Errorf("planning the cgroups of node %q: %w", name, err)
	}
	kubelet, err := kubeletConfig(o)
	if err != nil {
		return machine.Spec{}, err
	}
	proxy, err := proxyConfig(name)
	if err != nil {
		return machine.Spec{}, err
	}
	network := machine.Network{
		Bridge: bridgeName, Port: portName(i), Address: nodeIP(i) + networkBits, Gateway: controlPlaneIP,
	}
	for other := 1; other <= o.Nodes; other++ {
		if other != i {
			network.Routes = append(network.Routes, machine.Route{To: podCIDR(other), Via: nodeIP(other)})
		}
	}
	return machine.Spec{
		Group:  l.dir,
		Name:   name,
		Dir:    l.machine(name),
		RootFS: set.RootFS,
		// What containerd and the kubelet keep must not lie on an overlay, which can't carry another one's upper layer.
		Binds: []machine.Bind{
			{Source: set.KubernetesDir, Target: "/opt/kubernetes/bin", ReadOnly: true},
			{Source: set.ContainerdDir, Target: "/opt/containerd/bin", ReadOnly: true},
			{Source: l.secrets(name), Target: secretsDir, ReadOnly: true},
			{Source: l.disk(name, "containerd"), Target: "/var/lib/containerd"},
			{Source: l.disk(name, "kubelet"), Target: "/var/lib/kubelet"},
			{Source: l.shared(), Target: sharedMount},
		},
		OwnSettings: hostSettings,
		Files: []machine.File{
			{Path: "/etc/hosts", Content: hosts(o)},
			{Path: "/etc/resolv.conf", Content: "nameserver " + controlPlaneIP + "\n"},
			{Path: "/etc/containerd/config.toml", Content: containerdConfig(o.ContainerdVersion)},
			{Path: "/etc/containerd/certs.d/" + registryName + "/hosts.toml", Content: registryHosts},
			{Path: "/etc/cni/net.d/10-cryopod.conflist", Content: cniConfig(i)},
			{Path: "/etc/kubelet.yaml", Content: kubelet},
			{Path: "/etc/kube-proxy.yaml", Content: proxy},
		},
		Links:   map[string]string{"/opt/cni/bin": "/usr/lib/cni"},
		Network: network,
		Cgroups: cgroups,
		Components: []machine.Component{
			{Name: "containerd", Argv: []string{"containerd", "--config", "/etc/containerd/config.toml"}},
			{
				Name:    "kubelet",
				WaitFor: []string{"unix:" + containerdSocket, "tcp:" + apiAddress},
				Argv: []string{
					"kubelet", "--config=/etc/kubelet.yaml", "--kubeconfig=" + secretsDir + "/kubelet.conf",
					"--hostname-override=" + name, "--node-ip=" + nodeIP(i),
				},
			},
			{
				Name:    "kube-proxy",
				WaitFor: []string{"tcp:" + apiAddress},
				Argv:    []string{"kube-proxy", "--config=/etc/kube-proxy.yaml"},
			},
		},
	}, nil
}

// containerdConfig turns on the restoring of containers where the version has a switch for it: 2.1 always does, 2.4
// never.
func containerdConfig(version string) string {
	var runtime strings.Builder
	if strings.HasPrefix(version, "2.2.") || strings.HasPrefix(version, "2.3.") {
		runtime.WriteString("  enable_experimental_restore_via_create = true\n")
	}
	if !machine.MayRaiseLimits() {
		runtime.WriteString("  restrict_oom_score_adj = true\n")
	}
	return fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
imports = ["/etc/containerd/conf.d/*.toml"]

[grpc]
  address = %q

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = %q
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = "/etc/containerd/certs.d"

[plugins.'io.containerd.cri.v1.runtime']
%s
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        SystemdCgroup = false
`, containerdSocket, registryName+"/"+pauseRepository, runtime.String())
}

var registryHosts = fmt.Sprintf(`server = "http://%[1]s"

[host."http://%[1]s"]
  capabilities = ["pull", "resolve", "push"]
`, registryName)

// cniConfig routes pods through their node rather than bridging them, so that Services work between pods of one node
// without the kernel's bridge netfilter.
func cniConfig(i int) string {
	return fmt.Sprintf(`{
  "cniVersion": "1.0.0",
  "name": "cryopod",
  "plugins": [{
    "type": "ptp",
    "ipMasq": false,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}
  }]
}
`, podCIDR(i))
}

func kubeletConfig(o Options) (string, error) {
	config := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": secretsDir + "/ca.crt"},
		},
		"authorization":            map[string]any{"mode": "Webhook"},
		"cgroupDriver":             "cgroupfs",
		"clusterDNS":               []string{dnsServiceIP},
		"clusterDomain":            clusterDomain,
		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"tlsCertFile":              secretsDir + "/kubelet.crt",
		"tlsPrivateKeyFile":        secretsDir + "/kubelet.key",
		// The machine is shared: none of its memory or disk is the node's alone, and it may have old cgroups or swap.
		"enforceNodeAllocatable":      []string{},
		"failCgroupV1":                false,
		"failSwapOn":                  false,
		"imageGCHighThresholdPercent": 100,
		"nodeLeaseDurationSeconds":    nodeLeaseSeconds,
		"evictionHard": map[string]string{
			"memory.available": "100Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%",
		},
	}
	if len(o.FeatureGates) > 0 {
		config["featureGates"] = o.FeatureGates
	}
	return toYAML(config)
}

func proxyConfig(name string) (string, error) {
	return toYAML(map[string]any{
		"apiVersion":       "kubeproxy.config.k8s.io/v1alpha1",
		"kind":             "KubeProxyConfiguration",
		"mode":             "nftables",
		"hostnameOverride": name,
		"clusterCIDR":      podNetwork,
		"clientConnection": map[string]any{"kubeconfig": secretsDir + "/kube-proxy.conf"},
		// The limits of connection tracking belong to the host.
		"conntrack": map[string]any{"maxPerCore": 0, "min": 0},
	})
}

func toYAML(v any) (string, error) {
	data, err := yaml.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encoding a configuration: %w", err)
	}
	return string(data), nil
}
