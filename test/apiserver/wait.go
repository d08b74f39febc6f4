// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// awaitTimeout is how long Await waits, awaitPause the pause between two looks.
	awaitTimeout = time.Minute
	awaitPause   = 50 * time.Millisecond
)

// Await polls until got is what is wanted, and fails the test when that takes longer than a minute or poll fails.
func Await(t testing.TB, want string, poll func(context.Context) (got string, ok bool, err error)) {
	t.Helper()
	var got string
	err := wait.PollUntilContextTimeout(t.Context(), awaitPause, awaitTimeout, true, func(ctx context.Context) (ok bool, err error) {
		got, ok, err = poll(ctx)
		return ok, err
	})
	if err != nil {
		t.Fatalf("waiting for %s: %v; got %q", want, err, got)
	}
}

// The ports that are tried are below those that the kernel gives away by itself, to what asks for any and to every connection. Programs that run side
// by side have each their own part of them.
const (
	firstPort = 20_000
	parts     = 120
	partPorts = 100
)

// ports counts those that were tried.
var ports atomic.Int32

// FreePort is a TCP port that nobody listens on, and that no other call gets soon.
func FreePort(t testing.TB) int {
	t.Helper()
	for range partPorts {
		port := firstPort + os.Getpid()%parts*partPorts + int(ports.Add(1))%partPorts
		if l, err := net.Listen("tcp", ":"+strconv.Itoa(port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("there is no free port")
	return 0
}
