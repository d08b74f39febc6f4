// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/cryopod/cryopod/test/e2e/cluster/pki"
)

// mastersGroup has every right in a cluster.
const mastersGroup = "system:masters"

// writeSecrets makes the cluster's authorities and everything that they sign, each machine's in a folder of its own.
func writeSecrets(l layout, o Options, apiHostAddress string) error {
	ca, err := pki.NewAuthority("kubernetes")
	if err != nil {
		return err
	}
	if err := controlPlaneSecrets(l, ca); err != nil {
		return err
	}
	for i := 1; i <= o.Nodes; i++ {
		if err := nodeSecrets(l, ca, i); err != nil {
			return err
		}
	}
	admin, err := ca.Kubeconfig(serverURL(apiHostAddress), pki.Subject{User: "kubernetes-admin", Groups: []string{mastersGroup}})
	if err != nil {
		return err
	}
	return writeSecret(l.kubeconfig(), admin)
}

func controlPlaneSecrets(l layout, ca *pki.Authority) error {
	front, err := pki.NewAuthority("front-proxy-ca")
	if err != nil {
		return err
	}
	accounts, err := pki.NewKeyPair()
	if err != nil {
		return err
	}
	w := secretWriter{dir: l.secrets(controlPlaneName)}
	w.pair("ca", ca.Pair(), nil)
	w.pair("front-proxy-ca", front.Pair(), nil)
	w.pair("sa", accounts, nil)
	w.issue("apiserver", ca, pki.Subject{
		User: "kube-apiserver",
		DNSNames: []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + clusterDomain, "localhost",
		},
		IPs: []net.IP{net.ParseIP(controlPlaneIP), net.ParseIP(apiServiceIP), net.IPv4(127, 0, 0, 1)},
	})
	w.issue("apiserver-kubelet-client", ca, pki.Subject{User: "kube-apiserver-kubelet-client", Groups: []string{mastersGroup}})
	w.issue("front-proxy-client", front, pki.Subject{User: "front-proxy-client"})
	w.kubeconfig("controller-manager", ca, pki.Subject{User: "system:kube-controller-manager"})
	w.kubeconfig("scheduler", ca, pki.Subject{User: "system:kube-scheduler"})
	w.kubeconfig("coredns", ca, pki.Subject{User: dnsUser})
	return w.err
}

func nodeSecrets(l layout, ca *pki.Authority, i int) error {
	w := secretWriter{dir: l.secrets(nodeName(i))}
	w.pair("ca", pki.Pair{Cert: ca.Pair().Cert}, nil)
	w.issue("kubelet", ca, pki.Subject{
		User: "system:node:" + nodeName(i), Groups: []string{"system:nodes"},
		DNSNames: []string{nodeName(i)}, IPs: []net.IP{net.ParseIP(nodeIP(i))},
	})
	w.kubeconfig("kubelet", ca, pki.Subject{User: "system:node:" + nodeName(i), Groups: []string{"system:nodes"}})
	w.kubeconfig("kube-proxy", ca, pki.Subject{User: "system:kube-proxy"})
	return w.err
}

// secretWriter writes files into a folder until the first error, which it keeps.
type secretWriter struct {
	dir string
	err error
}

func (w *secretWriter) write(name string, data []byte) {
	if w.err == nil && len(data) > 0 {
		w.err = writeSecret(filepath.Join(w.dir, name), data)
	}
}

func (w *secretWriter) pair(name string, p pki.Pair, err error) {
	if w.err == nil {
		w.err = err
	}
	w.write(name+".crt", p.Cert)
	w.write(name+".key", p.Key)
}

func (w *secretWriter) issue(name string, ca *pki.Authority, s pki.Subject) {
	p, err := ca.Issue(s)
	w.pair(name, p, err)
}

func (w *secretWriter) kubeconfig(name string, ca *pki.Authority, s pki.Subject) {
	data, err := ca.Kubeconfig(serverURL(apiAddress), s)
	if w.err == nil {
		w.err = err
	}
	w.write(name+".conf", data)
}

func writeSecret(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("creating the folder of %q: %w", path, err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return nil
}
