// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// ListenMPTCP opens a listening MPTCP socket by system calls, which no setting of the Go runtime turns into TCP, and which CRIU
// refuses to dump ("Unsupported proto 262"). It stays open for the life of the process.
func ListenMPTCP() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		return fmt.Errorf("opening an MPTCP socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fmt.Errorf("binding an MPTCP socket: %w", err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		return fmt.Errorf("listening on an MPTCP socket: %w", err)
	}
	return nil
}

// Echo sends back what it is sent, on each connection to address, until the process ends. It returns once it listens.
func Echo(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening for echoes: %w", err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				// A peer that goes away ends its echo, and nothing else.
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return nil
}
