// SPDX-License-Identifier: Apache-2.0

package selfsigned_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"maps"
	"testing"
	"time"

	certutil "k8s.io/client-go/util/cert"

	"github.com/cryopod/cryopod/certs/selfsigned"
)

var policy = selfsigned.Policy{Host: "cryopod-webhook.cryopod-system.svc", Lifetime: 90 * 24 * time.Hour}

func issued(t *testing.T, p selfsigned.Policy, old map[string][]byte) map[string][]byte {
	t.Helper()
	data, err := p.Issue(old, time.Now())
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	return data
}

func TestLoad(t *testing.T) {
	good := issued(t, policy, nil)
	other := issued(t, policy, nil)
	replaced := func(key string, value []byte) map[string][]byte {
		data := maps.Clone(good)
		data[key] = value
		return data
	}
	for name, tc := range map[string]struct {
		data   map[string][]byte
		policy selfsigned.Policy
		after  time.Duration
		bad    bool
	}{
		"fresh":                  {data: good, policy: policy},
		"old":                    {data: good, policy: policy, after: 89 * 24 * time.Hour},
		"expired":                {data: good, policy: policy, after: 91 * 24 * time.Hour, bad: true},
		"not valid yet":          {data: good, policy: policy, after: -2 * time.Hour, bad: true},
		"empty":                  {policy: policy, bad: true},
		"another host":           {data: good, policy: selfsigned.Policy{Host: "x.y.svc", Lifetime: policy.Lifetime}, bad: true},
		"another's key":          {data: replaced(selfsigned.KeyPrivate, other[selfsigned.KeyPrivate]), policy: policy, bad: true},
		"another's CA":           {data: replaced(selfsigned.KeyCA, other[selfsigned.KeyCA]), policy: policy, bad: true},
		"no CA":                  {data: replaced(selfsigned.KeyCA, nil), policy: policy, bad: true},
		"a certificate of noise": {data: replaced(selfsigned.KeyCertificate, []byte("noise")), policy: policy, bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			pair, renewal, err := tc.policy.Load(tc.data, time.Now().Add(tc.after))
			if errors.Is(err, selfsigned.ErrUnusable) != tc.bad || (err != nil) != tc.bad {
				t.Fatalf("Load() error = %v, want ErrUnusable: %v", err, tc.bad)
			}
			if tc.bad {
				return
			}
			left := pair.Leaf.NotAfter.Sub(renewal)
			if left != policy.Lifetime/3 {
				t.Errorf("renewed %s before the end, want a third of %s", left, policy.Lifetime)
			}
		})
	}
}

// TestIssueKeepsTrust shows that whoever still serves the old certificate is trusted by the new bundle, and that the bundle does not
// grow for ever.
func TestIssueKeepsTrust(t *testing.T) {
	first := issued(t, policy, nil)
	second := issued(t, policy, first)
	mixed := maps.Clone(first)
	mixed[selfsigned.KeyCA] = second[selfsigned.KeyCA]
	if _, _, err := policy.Load(mixed, time.Now()); err != nil {
		t.Errorf("the first certificate under the second bundle: %v", err)
	}

	later, err := policy.Issue(second, time.Now().Add(100*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if n := countCAs(t, later); n != 1 {
		t.Errorf("%d CAs are trusted after the others have expired, want 1", n)
	}
	data := first
	for range 7 {
		data = issued(t, policy, data)
	}
	if n := countCAs(t, data); n != 8 {
		t.Errorf("%d CAs are trusted after many renewals, want 8", n)
	}
}

func countCAs(t *testing.T, data map[string][]byte) int {
	t.Helper()
	cas, err := certutil.ParseCertsPEM(data[selfsigned.KeyCA])
	if err != nil {
		t.Fatalf("parsing the bundle: %v", err)
	}
	return len(cas)
}

// TestKeysAreQuick looks at what each handshake has to compute.
func TestKeysAreQuick(t *testing.T) {
	data, err := policy.Issue(nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, _, err := policy.Load(data, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range pair.Certificate {
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
			t.Errorf("the key of %q is a %T, want one of P-256", c.Subject.CommonName, c.PublicKey)
		}
	}
	if len(pair.Certificate) != 2 {
		t.Errorf("%d certificates are served, want the CA's beside its own", len(pair.Certificate))
	}
}
