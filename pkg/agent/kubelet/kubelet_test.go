// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cryopod/cryopod/pkg/agent/kubelet"
)

// server is a kubelet that answers what it is told; its last request is kept.
type server struct {
	*httptest.Server
	status int
	body   string
	last   *http.Request
}

func newServer(t *testing.T, status int, body string) *server {
	s := &server{status: status, body: body}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.last = r
		w.WriteHeader(s.status)
		_, _ = fmt.Fprint(w, s.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) options(t *testing.T) kubelet.Options {
	t.Helper()
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := errors.Join(os.WriteFile(ca, block, 0o600), os.WriteFile(token, []byte("secret\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return kubelet.Options{Address: s.Listener.Addr().String(), CAFile: ca, TokenFile: token}
}

func dial(t *testing.T, o kubelet.Options) *kubelet.Client {
	t.Helper()
	c, err := kubelet.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckpoint(t *testing.T) {
	const archive = "/var/lib/kubelet/checkpoints/checkpoint-web_ns-app-2026-01-02T03:04:05Z.tar"
	tests := map[string]struct {
		status  int
		body    string
		want    string
		failure []string
	}{
		"done":           {200, `{"items":["` + archive + `"]}`, archive, nil},
		"nonsense":       {200, `{"items":[]}`, "", []string{"no archive"}},
		"a relative one": {200, `{"items":["../x"]}`, "", []string{"no archive"}},
		"unauthorized":   {401, "Unauthorized", "", []string{"401", "webhook authentication"}},
		"forbidden":      {403, "Forbidden (user=x, verb=create)", "", []string{"403", "nodes/checkpoint"}},
		"gone":           {404, "pod does not exist", "", []string{"404", "gone from this node"}},
		"turned off":     {404, "404 page not found", "", []string{"ContainerCheckpoint"}},
		"no disk":        {500, "checkpointing of ns/web/app failed (rpc error: code = Unknown desc = write /x: no space left on device)", "", []string{"500: no space left"}},
		"no runtime":     {500, "checkpointing of ns/web/app failed (rpc error: code = Unavailable desc = secret)", "", []string{"500: the container runtime answered Unavailable"}},
		"who knows":      {500, "checkpointing of ns/web/app failed (secret)", "", []string{"500: the reason is in the logs"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, tc.status, tc.body)
			got, err := dial(t, s.options(t)).Checkpoint(t.Context(), "ns", "web", "app", 1500*time.Millisecond)
			if (err != nil) != (tc.failure != nil) || got != tc.want {
				t.Fatalf("Checkpoint = %q, %v; want %q", got, err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("error %q has the kubelet's own words", err)
			}
			for _, part := range tc.failure {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
			if got, want := s.last.Method+" "+s.last.RequestURI, "POST /checkpoint/ns/web/app?timeout=2"; got != want {
				t.Errorf("request %q, want %q", got, want)
			}
			if got := s.last.Header.Get("Authorization"); got != "Bearer secret" {
				t.Errorf("authorization %q, want the token", got)
			}
		})
	}
}

func TestProbe(t *testing.T) {
	tests := map[string]struct {
		status int
		body   string
		ok     bool
	}{
		"would do it": {404, "pod does not exist", true},
		"turned off":  {404, "404 page not found", false},
		"forbidden":   {403, "Forbidden", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, tc.status, tc.body)
			if err := dial(t, s.options(t)).Probe(t.Context()); (err == nil) != tc.ok {
				t.Errorf("Probe = %v, want ok %v", err, tc.ok)
			}
		})
	}
}

func TestCertificateOfNobodyWeKnow(t *testing.T) {
	s := newServer(t, 404, "pod does not exist")
	o := s.options(t)
	if err := os.WriteFile(o.CAFile, strangersCA(t), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := dial(t, o).Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "--kubelet-ca") {
		t.Errorf("Probe of an unknown certificate = %v, want a hint at --kubelet-ca", err)
	}
	o.Insecure = true
	if err := dial(t, o).Probe(t.Context()); err != nil {
		t.Errorf("Probe without verification = %v", err)
	}
}

func strangersCA(t *testing.T) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestKubeletIsDown(t *testing.T) {
	s := newServer(t, 200, "")
	o := s.options(t)
	s.Close()
	_, err := dial(t, o).Checkpoint(t.Context(), "ns", "web", "app", time.Second)
	if err == nil || !strings.Contains(err.Error(), "--kubelet-address") {
		t.Errorf("Checkpoint = %v, want a hint at the address", err)
	}
}
