// SPDX-License-Identifier: Apache-2.0

package recorder_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cryopod/cryopod/test/e2e/recorder"
)

var loopback = []recorder.Place{{Range: netip.MustParsePrefix("127.0.0.0/8"), Node: "node-1"}}

func open(t *testing.T, path string) *recorder.Server {
	t.Helper()
	s, err := recorder.Open(path, loopback)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func listen(t *testing.T, s *recorder.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go s.Serve(l)
	return l.Addr().String()
}

// say sends lines over one connection and returns the answers.
func say(t *testing.T, address string, lines ...string) []string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewScanner(conn)
	var got []string
	for _, line := range lines {
		fmt.Fprintln(conn, line)
		if !answers.Scan() {
			break
		}
		got = append(got, answers.Text())
	}
	return got
}

func TestConversation(t *testing.T) {
	cases := map[string]struct {
		lines []string
		want  []string
	}{
		"steps": {
			lines: []string{`{"workload":"w","step":1,"nonce":"a"}`, `{"workload":"w","step":2,"nonce":"b"}`},
			want:  []string{"ok a", "ok b"},
		},
		"a fault without a step": {
			lines: []string{`{"workload":"w","nonce":"a","fault":"memory"}`},
			want:  []string{"ok a"},
		},
		"no nonce": {
			lines: []string{`{"workload":"w","step":1}`, `{"workload":"w","step":2,"nonce":"b"}`},
			want:  []string{`error recording a message of "w": it needs a workload, a nonce, and a step from 1 or a fault`},
		},
		"not JSON": {
			lines: []string{`hello`},
			want:  []string{`error invalid character 'h' looking for beginning of value`},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			address := listen(t, open(t, filepath.Join(t.TempDir(), "log")))
			if diff := cmp.Diff(c.want, say(t, address, c.lines...)); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLogOutlivesTheServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	first := open(t, path)
	say(t, listen(t, first), `{"workload":"w","step":1,"nonce":"a"}`, `{"workload":"other","step":1,"nonce":"z"}`)
	say(t, listen(t, open(t, path)), `{"workload":"w","step":2,"nonce":"b","pod":"p"}`)

	want := []recorder.Entry{
		{Message: recorder.Message{Workload: "w", Step: 1, Nonce: "a"}, Sequence: 1, Peer: "127.0.0.1", Node: "node-1"},
		{Message: recorder.Message{Workload: "w", Step: 2, Nonce: "b", Pod: "p"}, Sequence: 3, Peer: "127.0.0.1", Node: "node-1"},
	}
	server := httptest.NewServer(open(t, path))
	defer server.Close()
	client := recorder.Client{Address: strings.TrimPrefix(server.URL, "http://")}
	got, err := client.Wait(context.Background(), "w", recorder.Reached(2))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(recorder.Entry{}, "Time")); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	rest, err := client.Entries(context.Background(), "w", 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[1:], rest, cmpopts.IgnoreFields(recorder.Entry{}, "Time")); diff != "" {
		t.Errorf("entries after 1 (-want +got):\n%s", diff)
	}
}
