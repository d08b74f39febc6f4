// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/test/e2e/workload"
)

// next asks s for a step, again after each error, as a workload does.
func next(t *testing.T, s workload.Source, nonce string) int64 {
	t.Helper()
	for range 5 {
		step, err := s.Next(t.Context(), nonce)
		if err == nil {
			return step
		}
		t.Logf("trying again: %v", err)
	}
	t.Fatalf("no step for nonce %q", nonce)
	return 0
}

func TestCounterCountsEachNonceOnce(t *testing.T) {
	var c workload.Counter
	var got []int64
	for _, nonce := range []string{"a", "a", "b", "c", "c"} {
		got = append(got, next(t, &c, nonce))
	}
	if diff := cmp.Diff([]int64{1, 1, 2, 3, 3}, got); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// startRedis answers each EVAL as the script would, but breaks every third connection's first answer off.
func startRedis(t *testing.T) string {
	t.Helper()
	l := listen(t)
	go func() {
		var steps int
		var last string
		for number := 1; ; number++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serveRedis(conn, &steps, &last, number%3 == 0)
		}
	}()
	return l.Addr().String()
}

func serveRedis(conn net.Conn, steps *int, last *string, deaf bool) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for range 2 {
		for range 9 {
			if !lines.Scan() {
				return
			}
		}
		if nonce := lines.Text(); nonce != *last {
			*steps, *last = *steps+1, nonce
		}
		if deaf {
			return
		}
		fmt.Fprintf(conn, ":%d\r\n", *steps)
	}
}

func TestRedisCountsEachNonceOnce(t *testing.T) {
	r := workload.Redis{Address: startRedis(t)}
	for want := int64(1); want <= 12; want++ {
		if got := next(t, &r, fmt.Sprintf("nonce-%d", want)); got != want {
			t.Fatalf("step %d, want %d", got, want)
		}
	}
}

func TestNginx(t *testing.T) {
	const page = "Active connections: 1 \nserver accepts handled requests\n 7 7 %d \nReading: 0 Writing: 1 Waiting: 0 \n"
	cases := map[string]struct {
		served []int
		steps  []int64
		fault  bool
	}{
		"grows":      {served: []int{1, 2, 9}, steps: []int64{1, 2, 3}},
		"goes back":  {served: []int{5, 6, 1}, steps: []int64{1, 2}, fault: true},
		"stands":     {served: []int{5, 5}, steps: []int64{1}, fault: true},
		"starts big": {served: []int{1 << 40}, steps: []int64{1}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, page, c.served[asked])
				asked++
			}))
			defer server.Close()
			source := workload.Nginx{URL: server.URL}
			var steps []int64
			var err error
			for i := 0; i < len(c.served) && err == nil; i++ {
				var step int64
				if step, err = source.Next(t.Context(), fmt.Sprint(i)); err == nil {
					steps = append(steps, step)
				}
			}
			if diff := cmp.Diff(c.steps, steps); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if got := errors.Is(err, workload.ErrFault); got != c.fault {
				t.Errorf("error %v, want a fault: %v", err, c.fault)
			}
		})
	}
}
