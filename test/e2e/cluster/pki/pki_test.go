// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cryopod/cryopod/test/e2e/cluster/pki"
)

func TestIssue(t *testing.T) {
	ca, err := pki.NewAuthority("ca")
	if err != nil {
		t.Fatal(err)
	}
	other, err := pki.NewAuthority("ca")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		subject pki.Subject
		server  string
		usage   x509.ExtKeyUsage
		ok      bool
	}{
		"client":                         {pki.Subject{User: "u"}, "", x509.ExtKeyUsageClientAuth, true},
		"client as server":               {pki.Subject{User: "u"}, "", x509.ExtKeyUsageServerAuth, false},
		"server by address":              {pki.Subject{User: "u", IPs: []net.IP{net.IPv4(10, 0, 0, 1)}}, "10.0.0.1", x509.ExtKeyUsageServerAuth, true},
		"server by name":                 {pki.Subject{User: "u", DNSNames: []string{"a.b"}}, "a.b", x509.ExtKeyUsageServerAuth, true},
		"server by another one's name":   {pki.Subject{User: "u", DNSNames: []string{"a.b"}}, "b.b", x509.ExtKeyUsageServerAuth, false},
		"server is a client to kubelets": {pki.Subject{User: "u", DNSNames: []string{"a.b"}}, "", x509.ExtKeyUsageClientAuth, true},
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := ca.Issue(test.subject)
			if err != nil {
				t.Fatal(err)
			}
			cert := parse(t, pair)
			options := x509.VerifyOptions{Roots: roots(t, ca), DNSName: test.server, KeyUsages: []x509.ExtKeyUsage{test.usage}}
			if _, err := cert.Verify(options); (err == nil) != test.ok {
				t.Errorf("verifying: %v, want success: %t", err, test.ok)
			}
			options.Roots = roots(t, other)
			if _, err := cert.Verify(options); err == nil {
				t.Error("another authority of the same name verifies the certificate")
			}
		})
	}
}

func TestKubeconfig(t *testing.T) {
	ca, err := pki.NewAuthority("ca")
	if err != nil {
		t.Fatal(err)
	}
	data, err := ca.Kubeconfig("https://127.0.0.1:1", pki.Subject{User: "jane", Groups: []string{"admins"}})
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, pki.Pair{Cert: config.CertData, Key: config.KeyData})
	got := append([]string{config.Host, cert.Subject.CommonName}, cert.Subject.Organization...)
	if diff := cmp.Diff([]string{"https://127.0.0.1:1", "jane", "admins"}, got); diff != "" {
		t.Errorf("server, user and groups (-want +got):\n%s", diff)
	}
}

func TestNewKeyPair(t *testing.T) {
	pair, err := pki.NewKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	private, _ := pem.Decode(pair.Key)
	key, err := x509.ParseECPrivateKey(private.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pair.Cert)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !key.PublicKey.Equal(public) {
		t.Error("the halves of the key don't belong together")
	}
}

func parse(t *testing.T, pair pki.Pair) *x509.Certificate {
	t.Helper()
	both, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	return both.Leaf
}

func roots(t *testing.T, ca *pki.Authority) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca.Pair().Cert) {
		t.Fatal("the authority has no certificate")
	}
	return pool
}
