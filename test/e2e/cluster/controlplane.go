// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"strings"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
)

// secretsDir is where a machine finds its certificates and kubeconfig files.
const secretsDir = "/etc/kubernetes"

// nodeLeaseSeconds is how long a kubelet's lease lasts, which it renews four times as often, and after which its node counts as dead.
const nodeLeaseSeconds = 20

// etcdClient is where etcd listens, within the control plane alone.
const etcdClient = "127.0.0.1:2379"

// hosts is /etc/hosts of every machine.
func hosts(o Options) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	fmt.Fprintf(&b, "%s %s %s\n", controlPlaneIP, controlPlaneName, registryHost)
	for i := 1; i <= o.Nodes; i++ {
		fmt.Fprintf(&b, "%s %s\n", nodeIP(i), nodeName(i))
	}
	return b.String()
}

// controlPlane describes the machine of the control plane, which also owns the network's bridge, the DNS server and the
// registry.
func controlPlane(l layout, o Options, set *toolchain.Set) machine.Spec {
	network := machine.Network{Bridge: bridgeName, Address: controlPlaneIP + networkBits}
	for i := 1; i <= o.Nodes; i++ {
		network.Routes = append(network.Routes, machine.Route{To: podCIDR(i), Via: nodeIP(i)})
	}
	return machine.Spec{
		Group:  l.dir,
		Name:   controlPlaneName,
		Dir:    l.machine(controlPlaneName),
		RootFS: set.RootFS,
		Binds: []machine.Bind{
			{Source: set.KubernetesDir, Target: "/opt/kubernetes/bin", ReadOnly: true},
			{Source: set.CoreDNS, Target: "/opt/bin/coredns", ReadOnly: true},
			{Source: set.Registry, Target: "/opt/bin/registry", ReadOnly: true},
			{Source: l.secrets(controlPlaneName), Target: secretsDir, ReadOnly: true},
			{Source: l.disk(controlPlaneName, "etcd"), Target: "/var/lib/etcd"},
			{Source: l.registry(), Target: "/var/lib/registry"},
		},
		Files: []machine.File{
			{Path: "/etc/hosts", Content: hosts(o)},
			{Path: "/etc/resolv.conf", Content: "nameserver " + controlPlaneIP + "\n"},
			{Path: "/etc/coredns/Corefile", Content: corefile()},
			{Path: "/etc/registry.yml", Content: registryConfig},
		},
		Network: network,
		Components: []machine.Component{
			etcd(), apiServer(o), controllerManager(o), scheduler(o), coreDNS(),
			{Name: registryComponent, Argv: []string{"registry", "serve", "/etc/registry.yml"}, Env: []string{"OTEL_TRACES_EXPORTER=none"}},
		},
	}
}

func etcd() machine.Component {
	return machine.Component{Name: "etcd", Argv: []string{
		"etcd",
		"--name=" + controlPlaneName,
		"--data-dir=/var/lib/etcd",
		"--listen-client-urls=http://" + etcdClient,
		"--advertise-client-urls=http://" + etcdClient,
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=" + controlPlaneName + "=http://127.0.0.1:2380",
		"--log-level=warn",
		// The page cache survives everything that tests do to the control plane.
		"--unsafe-no-fsync",
	}}
}

// apiServer has the flags that kubeadm sets (kubernetes cmd/kubeadm/app/phases/controlplane), and two for a cluster
// whose control plane has neither names for nodes nor a kube-proxy.
func apiServer(o Options) machine.Component {
	c := machine.Component{
		Name:    apiServerComponent,
		WaitFor: []string{"tcp:" + etcdClient},
		Argv: gated(o, []string{
			apiServerComponent,
			"--advertise-address=" + controlPlaneIP,
			"--allow-privileged=true",
			"--authorization-mode=Node,RBAC",
			"--client-ca-file=" + secretsDir + "/ca.crt",
			"--enable-admission-plugins=NodeRestriction",
			"--enable-aggregator-routing=true",
			"--enable-bootstrap-token-auth=true",
			"--etcd-servers=http://" + etcdClient,
			"--kubelet-certificate-authority=" + secretsDir + "/ca.crt",
			"--kubelet-client-certificate=" + secretsDir + "/apiserver-kubelet-client.crt",
			"--kubelet-client-key=" + secretsDir + "/apiserver-kubelet-client.key",
			"--kubelet-preferred-address-types=InternalIP",
			"--proxy-client-cert-file=" + secretsDir + "/front-proxy-client.crt",
			"--proxy-client-key-file=" + secretsDir + "/front-proxy-client.key",
			"--requestheader-allowed-names=front-proxy-client",
			"--requestheader-client-ca-file=" + secretsDir + "/front-proxy-ca.crt",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--requestheader-group-headers=X-Remote-Group",
			"--requestheader-username-headers=X-Remote-User",
			fmt.Sprintf("--secure-port=%d", apiPort),
			"--service-account-issuer=https://kubernetes.default.svc." + clusterDomain,
			"--service-account-key-file=" + secretsDir + "/sa.crt",
			"--service-account-signing-key-file=" + secretsDir + "/sa.key",
			"--service-cluster-ip-range=" + serviceNetwork,
			"--tls-cert-file=" + secretsDir + "/apiserver.crt",
			"--tls-private-key-file=" + secretsDir + "/apiserver.key",
		}),
	}
	if versions := switches(o.RuntimeConfig); versions != "" {
		c.Argv = append(c.Argv, "--runtime-config="+versions)
	}
	return c
}

func controllerManager(o Options) machine.Component {
	config := secretsDir + "/controller-manager.conf"
	return machine.Component{
		Name:    "kube-controller-manager",
		WaitFor: []string{"tcp:" + apiAddress},
		Argv: gated(o, []string{
			"kube-controller-manager",
			// Each node has a fixed pod network.
			"--allocate-node-cidrs=false",
			"--authentication-kubeconfig=" + config,
			"--authorization-kubeconfig=" + config,
			"--bind-address=127.0.0.1",
			"--client-ca-file=" + secretsDir + "/ca.crt",
			"--cluster-signing-cert-file=" + secretsDir + "/ca.crt",
			"--cluster-signing-key-file=" + secretsDir + "/ca.key",
			"--controllers=*,bootstrapsigner,tokencleaner",
			// Its usual 20 requests a second are what a start would wait for.
			"--kube-api-burst=400",
			"--kube-api-qps=200",
			"--kubeconfig=" + config,
			// It is alone: there is nobody to wait for.
			"--leader-elect=false",
			// A dead node is noticed after four leases that did not come, not after the usual 50 s: tests wait for it.
			fmt.Sprintf("--node-monitor-grace-period=%ds", nodeLeaseSeconds),
			"--node-monitor-period=2s",
			"--requestheader-client-ca-file=" + secretsDir + "/front-proxy-ca.crt",
			"--root-ca-file=" + secretsDir + "/ca.crt",
			"--service-account-private-key-file=" + secretsDir + "/sa.key",
			"--use-service-account-credentials=true",
		}),
	}
}

func scheduler(o Options) machine.Component {
	config := secretsDir + "/scheduler.conf"
	return machine.Component{
		Name:    "kube-scheduler",
		WaitFor: []string{"tcp:" + apiAddress},
		Argv: gated(o, []string{
			"kube-scheduler",
			"--authentication-kubeconfig=" + config,
			"--authorization-kubeconfig=" + config,
			"--bind-address=127.0.0.1",
			"--kubeconfig=" + config,
			"--leader-elect=false",
		}),
	}
}

func coreDNS() machine.Component {
	return machine.Component{
		Name:    "coredns",
		WaitFor: []string{"tcp:" + apiAddress},
		Argv:    []string{"coredns", "-conf", "/etc/coredns/Corefile"},
	}
}

func gated(o Options, argv []string) []string {
	if gates := o.featureGates(); gates != "" {
		argv = append(argv, "--feature-gates="+gates)
	}
	return argv
}

// corefile answers for the cluster's domain and the registry. Everything else fails at once: there is no other network.
func corefile() string {
	return fmt.Sprintf(`.:53 {
	bind %[1]s
	errors
	health 127.0.0.1:8080
	ready 127.0.0.1:8181
	hosts /etc/hosts %[4]s
	kubernetes %[2]s in-addr.arpa ip6.arpa {
		kubeconfig %[3]s/coredns.conf
		pods insecure
		ttl 5
	}
}
`, controlPlaneIP, clusterDomain, secretsDir, registryHost)
}

var registryConfig = fmt.Sprintf(`version: 0.1
log:
  level: warn
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
  maintenance:
    uploadpurging:
      enabled: false
http:
  addr: 0.0.0.0:%d
  secret: cryopod-local-cluster
`, registryPort)
