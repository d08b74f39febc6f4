// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cryopod/cryopod/test/e2e/recorder"
	"github.com/cryopod/cryopod/test/e2e/workload"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func startRecorder(t *testing.T) (*recorder.Server, string) {
	t.Helper()
	s, err := recorder.Open(filepath.Join(t.TempDir(), "log"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l := listen(t)
	go s.Serve(l)
	return s, l.Addr().String()
}

// startBreaker forwards connections to target. Each forwards so many bytes in the given direction and then breaks.
func startBreaker(t *testing.T, target string, requestBytes, answerBytes int64) (string, *atomic.Int64) {
	t.Helper()
	var connections atomic.Int64
	l := listen(t)
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			to, err := net.Dial("tcp", target)
			if err != nil {
				from.Close()
				return
			}
			relay := func(dst, src net.Conn, n int64) {
				io.CopyN(dst, src, n)
				dst.Close()
				src.Close()
			}
			go relay(to, from, requestBytes)
			go relay(from, to, answerBytes)
		}
	}()
	return l.Addr().String(), &connections
}

func TestBrokenConnectionsLoseAndRepeatNothing(t *testing.T) {
	const plenty = 1 << 20
	cases := map[string]struct{ requestBytes, answerBytes int64 }{
		"within a request":  {requestBytes: 400, answerBytes: plenty},
		"before an answer":  {requestBytes: plenty, answerBytes: 56},
		"within an answer":  {requestBytes: plenty, answerBytes: 70},
		"right after start": {requestBytes: 260, answerBytes: 30},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			server, direct := startRecorder(t)
			address, connections := startBreaker(t, direct, c.requestBytes, c.answerBytes)
			w := workload.Workload{
				Name:     "w",
				Reporter: &workload.Reporter{Address: address},
				Source:   &workload.Counter{},
				Ballast:  workload.NewBallast(1),
				Interval: time.Millisecond,
				Until:    20,
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := w.Run(ctx); err != nil {
				t.Fatal(err)
			}
			verdict := recorder.Check(server.Entries("w", 0))
			if err := verdict.Err(); err != nil {
				t.Error(err)
			}
			if verdict.Highest != 20 {
				t.Errorf("highest step recorded is %d, want 20", verdict.Highest)
			}
			if connections.Load() < 3 {
				t.Errorf("%d connections: nothing was broken", connections.Load())
			}
		})
	}
}

func TestFaultsAreReported(t *testing.T) {
	ballast := workload.NewBallast(1)
	ballast.Corrupt(123456)
	server, address := startRecorder(t)
	w := workload.Workload{
		Name:     "w",
		Reporter: &workload.Reporter{Address: address},
		Source:   &workload.Counter{},
		Ballast:  ballast,
		Interval: time.Millisecond,
		Until:    20,
	}
	if err := w.Run(t.Context()); !errors.Is(err, workload.ErrFault) {
		t.Errorf("Run() = %v, want ErrFault", err)
	}
	faults := recorder.Check(server.Entries("w", 0)).Faults
	if len(faults) != 1 || !strings.Contains(faults[0], "chunk 1 of the ballast") {
		t.Errorf("faults recorded: %q, want one about chunk 1", faults)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	l := listen(t)
	address := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	w := workload.Workload{
		Name:     "w",
		Reporter: &workload.Reporter{Address: address},
		Source:   &workload.Counter{},
		Ballast:  workload.NewBallast(0),
		Interval: time.Millisecond,
	}
	if err := w.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run() = %v, want the context's error", err)
	}
}

func TestBallast(t *testing.T) {
	b := workload.NewBallast(2)
	if got, want := b.Bytes(), int64(2<<20); got != want {
		t.Errorf("Bytes() = %d, want %d", got, want)
	}
	var checked int64
	for step := range int64(100) {
		b.Touch(step)
		n, err := b.Verify()
		if err != nil {
			t.Fatalf("after step %d: %v", step, err)
		}
		checked += n
	}
	if checked < b.Bytes() {
		t.Errorf("checked %d bytes in 100 steps, want all %d at least", checked, b.Bytes())
	}
}
