// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cryopod/cryopod/test/e2e/chaos/fault"
)

const (
	blob  = "/v2/checkpoints/shop/blobs/sha256:aa"
	other = "/v2/checkpoints/shop/blobs/sha256:bb"
	base  = "/v2/cryopod/agent/blobs/sha256:cc"
)

// through serves a registry whose blobs have so many bytes through the proxy, and returns how to ask it.
func through(t *testing.T, p *fault.Proxy, size int) func(method, path string) (status int, body string) {
	t.Helper()
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host+" "+strings.Repeat("x", size))
	}))
	t.Cleanup(registry.Close)
	var d net.Dialer
	p.Dial = func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", registry.Listener.Addr().String())
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fault.Serve(p, l))
	return func(method, path string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.Addr().String()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "registry.local:5000"
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var body bytes.Buffer
		if _, err := body.ReadFrom(answer.Body); err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, body.String()
	}
}

func TestProxyPasses(t *testing.T) {
	ask := through(t, &fault.Proxy{}, 3)
	if status, body := ask(http.MethodGet, blob); status != http.StatusOK || body != "registry.local:5000 xxx" {
		t.Errorf("got %d, %q; want the registry's answer to the host that was asked", status, body)
	}
}

func TestProxyFails(t *testing.T) {
	failing := true
	ask := through(t, &fault.Proxy{Failing: func() bool { return failing }}, 0)
	if status, _ := ask(http.MethodGet, blob); status != http.StatusInternalServerError {
		t.Errorf("got %d, want 500", status)
	}
	failing = false
	if status, _ := ask(http.MethodGet, blob); status != http.StatusOK {
		t.Errorf("got %d, want 200", status)
	}
}

func TestProxyLosesOneBlob(t *testing.T) {
	ask := through(t, &fault.Proxy{Losing: true}, 0)
	for _, step := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, base, http.StatusOK},
		{http.MethodHead, blob, http.StatusOK}, // before its push; only a read chooses
		{http.MethodGet, blob, http.StatusNotFound},
		{http.MethodHead, blob, http.StatusNotFound},
		{http.MethodGet, other, http.StatusOK},
		{http.MethodGet, blob, http.StatusNotFound},
		{http.MethodGet, "/v2/checkpoints/shop/manifests/one", http.StatusOK},
	} {
		if status, _ := ask(step.method, step.path); status != step.want {
			t.Errorf("%s %s: got %d, want %d", step.method, step.path, status, step.want)
		}
	}
}

func TestProxyIsSlow(t *testing.T) {
	const size, perSecond = 40 << 10, 160 << 10
	ask := through(t, &fault.Proxy{BytesPerSecond: perSecond, Latency: 50 * time.Millisecond}, size)
	begun := time.Now()
	ask(http.MethodGet, blob)
	if took := time.Since(begun); took < 300*time.Millisecond {
		t.Errorf("%d bytes took %v at %d bytes a second and 50 ms", size, took, perSecond)
	}
}
