// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// proxy stands before a registry and spoils what goes through. Its exported fields are not changed once it serves.
type proxy struct {
	// Dial connects to the registry.
	Dial func(ctx context.Context) (net.Conn, error)
	// Failing tells whether a request is answered with 500; nil for none.
	Failing func() bool
	// Losing is whether the first blob that is read below /v2/checkpoints/ is gone from then on.
	Losing bool
	// Latency is added to each request, BytesPerSecond bounds each connection; 0 for no bound.
	Latency        time.Duration
	BytesPerSecond int

	// requests counts what came.
	requests atomic.Int64

	mu   sync.Mutex
	lost string
}

// checkpointsPath begins the paths of what the agents push.
const checkpointsPath = "/v2/checkpoints/"

// serve answers on l until stop is called, which also ends the connections.
func (p *proxy) serve(l net.Listener) (stop func()) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return p.Dial(ctx) },
	}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "registry"})
			// The registry puts it into what it says where to go on.
			r.Out.Host = r.In.Host
		},
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !p.refuse(w, r) {
				forward.ServeHTTP(w, r)
			}
		}),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(&slowListener{Listener: l, perSecond: p.BytesPerSecond})
	}()
	return func() {
		_ = server.Close()
		<-ended
		transport.CloseIdleConnections()
	}
}

// refuse answers what must not come to the registry.
func (p *proxy) refuse(w http.ResponseWriter, r *http.Request) bool {
	p.requests.Add(1)
	if p.Latency > 0 {
		select {
		case <-time.After(p.Latency):
		case <-r.Context().Done():
		}
	}
	switch {
	case p.Failing != nil && p.Failing():
		http.Error(w, `{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}`, http.StatusInternalServerError)
	case p.Losing && p.isLost(r):
		http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}`, http.StatusNotFound)
	default:
		return false
	}
	return true
}

// isLost chooses the blob with the first request that reads one.
func (p *proxy) isLost(r *http.Request) bool {
	repository, digest, ok := strings.Cut(r.URL.Path, "/blobs/")
	if !ok || !strings.HasPrefix(repository+"/", checkpointsPath) || strings.HasPrefix(digest, "uploads/") {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost == "" && r.Method == http.MethodGet {
		p.lost = digest
	}
	return digest == p.lost
}

// slowListener bounds what goes through each of its connections.
type slowListener struct {
	net.Listener
	perSecond int
}

func (l *slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.perSecond == 0 {
		return c, err
	}
	return &slowConn{Conn: c, perSecond: l.perSecond}, nil
}

// slowConn sleeps after what it has read or written for as long as that takes at its rate. A piece is a tenth of a second's at most.
type slowConn struct {
	net.Conn
	perSecond int
}

func (c *slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:min(len(b), c.piece())])
	c.sleep(n)
	return n, err
}

func (c *slowConn) Write(b []byte) (written int, err error) {
	for len(b) > 0 && err == nil {
		var n int
		n, err = c.Conn.Write(b[:min(len(b), c.piece())])
		c.sleep(n)
		written, b = written+n, b[n:]
	}
	if err != nil {
		return written, fmt.Errorf("writing slowly: %w", err)
	}
	return written, nil
}

func (c *slowConn) piece() int { return max(c.perSecond/10, 1) }

func (c *slowConn) sleep(n int) {
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.perSecond))
}
