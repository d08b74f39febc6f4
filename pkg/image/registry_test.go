// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// testRegistry is a real registry in memory whose requests can be made to fail.
type testRegistry struct {
	host string
	over chan struct{}

	mu    sync.Mutex
	fault fault
	puts  int
}

// fault is what happens to the next requests of a method.
type fault struct {
	method, path string
	times        int
	// status and code are answered in the registry's stead.
	status int
	code   string
	// hangUp breaks the connection after some bytes of the request.
	hangUp bool
	// stall is called, and then the request waits for the end of the test.
	stall func()
}

func newRegistry(t testing.TB) *testRegistry {
	t.Helper()
	r := &testRegistry{over: make(chan struct{})}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if f, hit := r.hit(req); hit {
			f.serve(w, req, r.over)
			return
		}
		inner.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(r.over) })
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

func (r *testRegistry) inject(f fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// manifests is how many manifests were put.
func (r *testRegistry) manifests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.puts
}

func (r *testRegistry) hit(req *http.Request) (fault, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/manifests/") {
		r.puts++
	}
	if r.fault.times == 0 || req.Method != r.fault.method || !strings.Contains(req.URL.Path, r.fault.path) {
		return fault{}, false
	}
	r.fault.times--
	return r.fault, true
}

func (f fault) serve(w http.ResponseWriter, req *http.Request, over <-chan struct{}) {
	switch {
	case f.hangUp:
		_, _ = io.CopyN(io.Discard, req.Body, 1<<20)
		panic(http.ErrAbortHandler)
	case f.stall != nil:
		f.stall()
		<-over
	default:
		_, _ = io.Copy(io.Discard, req.Body)
		w.WriteHeader(f.status)
		if f.code != "" {
			_, _ = io.WriteString(w, `{"errors":[{"code":"`+f.code+`","message":"no"}]}`)
		}
	}
}
