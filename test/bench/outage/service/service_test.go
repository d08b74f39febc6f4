// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/test/bench/outage/service"
)

// question is as long as a request by the API server at the least.
var question = strings.Repeat("?", 1000)

// ask asks the Service once, by a connection of its own.
func ask(t *testing.T, s *service.Service) error {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", s.Port()), strings.NewReader(question))
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// replica answers, or closes the connection under the request.
func replica(t *testing.T, dies bool) *service.Endpoint {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !dies {
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}))
	t.Cleanup(server.Close)
	return &service.Endpoint{Address: server.Listener.Addr().String()}
}

func TestFailures(t *testing.T) {
	nowhere := func(*testing.T) *service.Endpoint { return &service.Endpoint{Address: "127.0.0.1:1"} }
	lives := func(t *testing.T) *service.Endpoint { return replica(t, false) }
	dies := func(t *testing.T) *service.Endpoint { return replica(t, true) }
	as := func(endpoint func(*testing.T) *service.Endpoint, c service.Cause) func(*testing.T) *service.Endpoint {
		return func(t *testing.T) *service.Endpoint {
			e := endpoint(t)
			e.Is(c)
			return e
		}
	}
	for name, tc := range map[string]struct {
		endpoint func(*testing.T) *service.Endpoint
		want     map[service.Cause]int
	}{
		"answered":                  {endpoint: lives, want: map[service.Cause]int{}},
		"answered by one that ends": {endpoint: as(lives, service.Terminated), want: map[service.Cause]int{}},
		"refused":                   {endpoint: as(nowhere, service.Killed), want: map[service.Cause]int{service.Killed: 1}},
		"closed under the request":  {endpoint: as(dies, service.Terminated), want: map[service.Cause]int{service.Terminated: 1}},
		"closed for no reason":      {endpoint: dies, want: map[service.Cause]int{service.Alive: 1}},
		"nobody there":              {want: map[service.Cause]int{service.Nobody: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := service.New(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if tc.endpoint != nil {
				s.Add(tc.endpoint(t))
			}
			if err := ask(t, s); (err != nil) != (len(tc.want) > 0) {
				t.Errorf("asking: %v", err)
			}
			_ = s.Close()
			s.Wait()
			if diff := cmp.Diff(tc.want, s.Failures()); diff != "" {
				t.Errorf("failures (-want +got):\n%s", diff)
			}
		})
	}
}
