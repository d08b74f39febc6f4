// SPDX-License-Identifier: Apache-2.0

// Package selfsigned gives the webhook a certificate that nobody has to bring: it makes a CA and a serving certificate, keeps them in
// one Secret, tells the API server which CAs to trust, and renews them in time.
//
// The CA's key is thrown away once it has signed: nobody can make another certificate that the API server would trust. A renewal
// brings a new CA, which is trusted beside the old ones until those have expired, and the new certificate is served only after
// that is written. So any replica may renew, the others follow, and no request fails on the way.
package selfsigned

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	certutil "k8s.io/client-go/util/cert"
)

// The keys of the Secret, as cert-manager names them too.
const (
	// KeyCA holds the CAs to trust, the newest first.
	KeyCA = "ca.crt"
	// KeyCertificate holds the serving certificate, followed by the CA that signed it.
	KeyCertificate = "tls.crt"
	// KeyPrivate holds the serving certificate's private key.
	KeyPrivate = "tls.key"
)

// maxCAs bounds the CAs that are trusted at a time. More than two occur only when certificates are renewed by hand.
const maxCAs = 8

// Policy says what certificates to make.
type Policy struct {
	// Host is the DNS name that the API server calls, SERVICE.NAMESPACE.svc.
	Host string
	// Lifetime is how long a certificate and its CA are valid. A new one is made when a third of it is left.
	Lifetime time.Duration
}

// ErrUnusable is what Load returns, wrapped with the reason, when there is no certificate to serve.
var ErrUnusable = errors.New("no usable certificate")

// Load reads the serving certificate out of the Secret's data, and tells when it is to be renewed. ErrUnusable comes when it is
// missing, broken, expired, for another host, or not signed by the CAs beside it.
func (p Policy) Load(data map[string][]byte, now time.Time) (*tls.Certificate, time.Time, error) {
	pair, err := tls.X509KeyPair(data[KeyCertificate], data[KeyPrivate])
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: reading the key pair: %w", ErrUnusable, err)
	}
	if err := p.verify(&pair, data[KeyCA], now); err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return &pair, pair.Leaf.NotAfter.Add(-p.Lifetime / 3), nil
}

// verify tells why those who trust the CAs would not take the certificate.
func (p Policy) verify(pair *tls.Certificate, cas []byte, now time.Time) error {
	roots := x509.NewCertPool()
	for _, ca := range parseCAs(cas) {
		roots.AddCert(ca)
	}
	_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: p.Host, CurrentTime: now})
	return err
}

// Issue makes a new CA and a certificate signed by it, and returns the Secret's new data. CAs of the old data that are still valid
// stay trusted.
func (p Policy) Issue(old map[string][]byte, now time.Time) (map[string][]byte, error) {
	made, err := p.sign(now)
	if err != nil {
		return nil, fmt.Errorf("making a certificate for %q: %w", p.Host, err)
	}
	trusted := []*x509.Certificate{made.ca}
	for _, ca := range parseCAs(old[KeyCA]) {
		if now.Before(ca.NotAfter) && len(trusted) < maxCAs && !slices.ContainsFunc(trusted, ca.Equal) {
			trusted = append(trusted, ca)
		}
	}
	return map[string][]byte{
		KeyCA: encode(trusted), KeyCertificate: encode([]*x509.Certificate{made.leaf, made.ca}), KeyPrivate: made.key,
	}, nil
}

func parseCAs(bundle []byte) []*x509.Certificate {
	cas, err := certutil.ParseCertsPEM(bundle)
	if err != nil {
		return nil
	}
	return cas
}

func encode(certificates []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range certificates {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: certutil.CertificateBlockType, Bytes: c.Raw}))
	}
	return out.Bytes()
}
