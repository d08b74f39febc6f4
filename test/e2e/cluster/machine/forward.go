// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// dialTimeout bounds a forwarder's connection into a machine's network.
const dialTimeout = 10 * time.Second

// firstListener is the file descriptor of the first listener that a forwarder inherits.
const firstListener = 3

// ForwardInherited serves listeners inherited from file descriptor 3 on, one for each target address, from the network
// namespace at path netNS. It returns on an error only.
func ForwardInherited(ctx context.Context, netNS string, targets []string) error {
	d, err := NewDialer(netNS)
	if err != nil {
		return err
	}
	defer d.Close()
	group, ctx := errgroup.WithContext(ctx)
	for i, target := range targets {
		f := os.NewFile(uintptr(firstListener+i), target)
		l, err := net.FileListener(f)
		if err != nil {
			return fmt.Errorf("taking over the listener for %q: %w", target, err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("taking over the listener for %q: %w", target, err)
		}
		group.Go(func() error { return Forward(ctx, l, d, target) })
	}
	return group.Wait()
}

// Forward connects each client of the listener to the target address until the listener is closed or ctx ends.
func Forward(ctx context.Context, l net.Listener, d *Dialer, target string) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		client, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting a connection for %q: %w", target, err)
		}
		go func() {
			defer client.Close()
			dialing, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			server, err := d.Dial(dialing, target)
			if err != nil {
				log.Printf("forwarding: %v", err)
				return
			}
			defer server.Close()
			splice(client, server)
		}()
	}
}

// splice copies both ways until both are done. The end of one direction is passed on as such.
func splice(a, b net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { oneWay(a, b) })
	both.Go(func() { oneWay(b, a) })
	both.Wait()
}

func oneWay(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		_ = half.CloseWrite()
		return
	}
	_ = dst.Close()
	_ = src.Close()
}
