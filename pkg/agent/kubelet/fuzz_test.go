// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cryopod/cryopod/pkg/agent/kubelet"
)

// FuzzAnswer: whatever a kubelet answers, there is an absolute path or an error that may be shown, and none of the answer is in that.
func FuzzAnswer(f *testing.F) {
	f.Add(200, `{"items":["/var/lib/kubelet/checkpoints/checkpoint-a.tar"]}`)
	f.Add(200, `{"items":["c4n4ry"]}`)
	f.Add(500, "checkpointing of ns/web/app failed (rpc error: code = c4n4ry desc = c4n4ry)")
	f.Add(403, "Forbidden (user=c4n4ry)")
	f.Add(404, "\x1b[31mc4n4ry")
	f.Add(307, "c4n4ry")
	var mu sync.Mutex
	var status int
	var body string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.Cleanup(server.Close)
	client, err := kubelet.New(kubelet.Options{Address: server.Listener.Addr().String(), Insecure: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, code int, answer string) {
		if code < 200 || code > 599 {
			return
		}
		mu.Lock()
		status, body = code, answer
		mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got, err := client.Checkpoint(ctx, "ns", "web", "app", time.Second)
		if (got == "") == (err == nil) || got != "" && (!path.IsAbs(got) || !json.Valid([]byte(answer))) {
			t.Errorf("got %q and error %v of %d %q", got, err, code, answer)
		}
		if err != nil && !showable(err.Error()) {
			t.Errorf("error %q", err)
		}
		if err := client.Probe(ctx); err != nil && !showable(err.Error()) {
			t.Errorf("probing: error %q", err)
		}
	})
}

func showable(s string) bool {
	return len(s) <= 600 && utf8.ValidString(s) && !strings.Contains(s, "c4n4ry") && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// TestCVE20250426NeverAsksInTheClear: the kubelet's read-only port took requests for checkpoints from anybody. The agent asks the one that knows
// its users, and tells its token to no one else.
func TestCVE20250426NeverAsksInTheClear(t *testing.T) {
	asked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.Header.Get("Authorization") }))
	defer server.Close()
	for _, insecure := range []bool{false, true} {
		client, err := kubelet.New(kubelet.Options{Address: server.Listener.Addr().String(), Insecure: insecure})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := client.Checkpoint(t.Context(), "ns", "web", "app", time.Second); err == nil {
			t.Errorf("got %q from a port that does not speak TLS", got)
		}
	}
	select {
	case header := <-asked:
		t.Errorf("it was asked, with authorization %q", header)
	default:
	}
}
