// SPDX-License-Identifier: Apache-2.0

package selfsigned_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/certs/selfsigned"
)

var key = client.ObjectKey{Namespace: "cryopod-system", Name: "cryopod-webhook-tls"}

// server is an API server with the Secret, empty, and the configuration of two webhooks.
func server(t *testing.T) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, admissionregistrationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	service := &admissionregistrationv1.ServiceReference{Namespace: key.Namespace, Name: "cryopod-webhook"}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}},
		&admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "cryopod"},
			Webhooks: []admissionregistrationv1.MutatingWebhook{
				{Name: "pods.checkpoint.io", ClientConfig: admissionregistrationv1.WebhookClientConfig{Service: service}},
				{Name: "evictions.checkpoint.io", ClientConfig: admissionregistrationv1.WebhookClientConfig{Service: service}},
			},
		},
	).Build()
}

func replica(c client.Client, clk *clocktesting.FakePassiveClock) *selfsigned.Rotator {
	return &selfsigned.Rotator{Client: c, Live: c, Clock: clk, Secret: key, Configuration: "cryopod", Policy: policy}
}

func run(t *testing.T, r *selfsigned.Rotator) reconcile.Result {
	t.Helper()
	result, err := r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key})
	if err != nil {
		t.Fatalf("Reconcile: %v", err)
	}
	return result
}

func served(t *testing.T, r *selfsigned.Rotator) *tls.Certificate {
	t.Helper()
	pair, err := r.GetCertificate(nil)
	if err != nil {
		t.Fatalf("GetCertificate: %v", err)
	}
	return pair
}

func secretData(t *testing.T, c client.Client) map[string][]byte {
	t.Helper()
	secret := &corev1.Secret{}
	if err := c.Get(context.Background(), key, secret); err != nil {
		t.Fatal(err)
	}
	return secret.Data
}

func TestRotation(t *testing.T) {
	c, clk := server(t), clocktesting.NewFakePassiveClock(time.Now())
	r := replica(c, clk)
	if r.Ready(nil) == nil {
		t.Error("ready before there is a certificate")
	}

	run(t, r) // makes the certificate
	if r.Ready(nil) == nil {
		t.Error("ready before the API server trusts the certificate")
	}
	again := run(t, r) // has it trusted, serves it
	first := served(t, r)
	if want := policy.Lifetime * 2 / 3; again.RequeueAfter > want || again.RequeueAfter < want-2*time.Hour {
		t.Errorf("looks again after %s, want about %s", again.RequeueAfter, want)
	}
	bundle := secretData(t, c)[selfsigned.KeyCA]
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := c.Get(context.Background(), client.ObjectKey{Name: "cryopod"}, config); err != nil {
		t.Fatal(err)
	}
	for _, w := range config.Webhooks {
		if !bytes.Equal(w.ClientConfig.CABundle, bundle) || w.ClientConfig.Service == nil {
			t.Errorf("webhook %q: has the bundle: %v, service %v", w.Name, bytes.Equal(w.ClientConfig.CABundle, bundle), w.ClientConfig.Service)
		}
	}

	// Certificates begin at the real time, so the time for the renewal is brought here.
	r.Policy.Lifetime *= 4
	run(t, r) // renews
	if bytes.Equal(secretData(t, c)[selfsigned.KeyCA], bundle) {
		t.Fatal("the certificate was not renewed when it was time")
	}
	if wait := run(t, r).RequeueAfter; wait != 10*time.Second || served(t, r) != first {
		t.Errorf("waits %s, serves the old certificate: %v; want 10s and the old one until API servers know the new CA",
			wait, served(t, r) == first)
	}
	clk.SetTime(clk.Now().Add(10 * time.Second))
	run(t, r)
	if served(t, r) == first {
		t.Error("the new certificate is not served")
	}
}

// trusted tells whether the API server, which was told the CAs, takes the certificate that the replica serves.
func trusted(t *testing.T, c client.Client, r *selfsigned.Rotator) error {
	t.Helper()
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := c.Get(context.Background(), client.ObjectKey{Name: "cryopod"}, config); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.Webhooks[0].ClientConfig.CABundle)
	_, err := served(t, r).Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: policy.Host})
	return err
}

// TestRenewedByHand empties the Secret again and again, as people do who want a new certificate, faster and slower than one settles. What is
// served must be trusted all the time, and must follow.
func TestRenewedByHand(t *testing.T) {
	for name, every := range map[string]time.Duration{"3 s": 3 * time.Second, "a minute": time.Minute} {
		t.Run(name, func(t *testing.T) {
			c, clk := server(t), clocktesting.NewFakePassiveClock(time.Now())
			r := replica(c, clk)
			run(t, r)
			run(t, r)
			seen := map[*tls.Certificate]bool{served(t, r): true}
			for range 6 {
				secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
				if err := c.Update(context.Background(), secret); err != nil {
					t.Fatal(err)
				}
				for range 3 { // the new one is made, trusted, looked at again
					run(t, r)
					if err := trusted(t, c, r); err != nil {
						t.Fatalf("the API server refuses what is served: %v", err)
					}
				}
				clk.SetTime(clk.Now().Add(every))
				run(t, r)
				seen[served(t, r)] = true
			}
			if len(seen) < 3 {
				t.Errorf("of 7 certificates %d were served", len(seen))
			}
			clk.SetTime(clk.Now().Add(10 * time.Second))
			run(t, r)
			if !bytes.HasPrefix(secretData(t, c)[selfsigned.KeyCertificate], pemOf(served(t, r))) {
				t.Error("the last certificate is not served in the end")
			}
		})
	}
}

// TestRenewedByAnotherReplica has a replica renew that knows nothing of the certificate that the other one serves.
func TestRenewedByAnotherReplica(t *testing.T) {
	c, clk := server(t), clocktesting.NewFakePassiveClock(time.Now())
	a := replica(c, clk)
	run(t, a)
	run(t, a)
	for range 2 {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		if err := c.Update(context.Background(), secret); err != nil {
			t.Fatal(err)
		}
		b := replica(c, clk) // which has just started
		run(t, b)
		run(t, b)
		if err := trusted(t, c, b); err != nil {
			t.Errorf("the API server refuses what the new replica serves: %v", err)
		}
		if err := trusted(t, c, a); err != nil {
			t.Errorf("the API server refuses what the old replica serves: %v", err)
		}
	}
}

func pemOf(pair *tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
}

// TestExpired is a replica that slept through its certificate's end: it must not wait with the new one.
func TestExpired(t *testing.T) {
	c, clk := server(t), clocktesting.NewFakePassiveClock(time.Now())
	r := replica(c, clk)
	r.Policy.Lifetime = 2 * time.Hour
	run(t, r)
	run(t, r)
	first := served(t, r)

	r.Policy.Lifetime = policy.Lifetime
	clk.SetTime(first.Leaf.NotAfter.Add(time.Minute))
	run(t, r) // renews
	run(t, r)
	if served(t, r) == first {
		t.Error("the expired certificate is still served")
	}
}

// TestReplicasConverge runs two replicas whose caches are both empty at first, so that both make a certificate.
func TestReplicasConverge(t *testing.T) {
	c, clk := server(t), clocktesting.NewFakePassiveClock(time.Now())
	empty := &corev1.Secret{}
	if err := c.Get(context.Background(), key, empty); err != nil {
		t.Fatal(err)
	}
	late := &stale{Client: c, secret: empty}
	a, b := replica(c, clk), replica(late, clk)
	b.Live = c

	run(t, a)
	winner := secretData(t, c)
	run(t, b) // loses against a
	run(t, a)
	late.secret = nil
	run(t, b)
	if !bytes.Equal(served(t, a).Certificate[0], served(t, b).Certificate[0]) {
		t.Error("the replicas serve different certificates")
	}
	if !bytes.Equal(secretData(t, c)[selfsigned.KeyCertificate], winner[selfsigned.KeyCertificate]) {
		t.Error("the slower replica overwrote the faster one's certificate")
	}
}

// TestStaleReplicaKeepsNewTrust is a replica whose cache still has the old Secret after another one renewed it.
func TestStaleReplicaKeepsNewTrust(t *testing.T) {
	c, clk := server(t), clocktesting.NewFakePassiveClock(time.Now())
	a := replica(c, clk)
	run(t, a)
	run(t, a)
	old := &corev1.Secret{}
	if err := c.Get(context.Background(), key, old); err != nil {
		t.Fatal(err)
	}
	renewed := old.DeepCopy()
	renewed.Data = issued(t, policy, old.Data)
	if err := c.Update(context.Background(), renewed); err != nil {
		t.Fatal(err)
	}
	run(t, a)

	b := replica(&stale{Client: c, secret: old}, clk)
	b.Live = c
	run(t, b)
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := c.Get(context.Background(), client.ObjectKey{Name: "cryopod"}, config); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(config.Webhooks[0].ClientConfig.CABundle, renewed.Data[selfsigned.KeyCA]) {
		t.Error("the stale replica took the new CA's trust away")
	}
}

// TestNothingToDo covers the objects missing: nobody calls the webhook then, and nothing may fail.
func TestNothingToDo(t *testing.T) {
	for name, gone := range map[string]client.Object{
		"no Secret":        &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}},
		"no configuration": &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "cryopod"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := server(t)
			if err := c.Delete(context.Background(), gone); err != nil {
				t.Fatal(err)
			}
			r := replica(c, clocktesting.NewFakePassiveClock(time.Now()))
			run(t, r)
			run(t, r)
			if ready := r.Ready(nil) == nil; ready != (name == "no configuration") {
				t.Errorf("ready: %v", ready)
			}
		})
	}
}

// stale is a client whose cache has an old version of the Secret, until that is nil.
type stale struct {
	client.Client
	secret *corev1.Secret
}

func (s *stale) Get(ctx context.Context, k client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if secret, ok := obj.(*corev1.Secret); ok && s.secret != nil {
		s.secret.DeepCopyInto(secret)
		return nil
	}
	return s.Client.Get(ctx, k, obj, opts...)
}
