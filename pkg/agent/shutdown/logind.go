// SPDX-License-Identifier: Apache-2.0

package shutdown

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
)

// DefaultSocket is where the system bus listens.
const DefaultSocket = "/run/dbus/system_bus_socket"

const (
	service = "org.freedesktop.login1"
	object  = dbus.ObjectPath("/org/freedesktop/login1")
	manager = service + ".Manager"
	begins  = "PrepareForShutdown"
)

// answering bounds each call.
const answering = 5 * time.Second

// Dial returns a Connect for the system bus that listens on the socket.
func Dial(socket string) func(context.Context) (Logind, error) {
	return func(context.Context) (Logind, error) {
		if _, err := os.Stat(socket); err != nil {
			return nil, fmt.Errorf("looking for %q: %w (%w)", socket, ErrNoBus, err)
		}
		conn, err := dbus.Connect("unix:path=" + dbus.EscapeBusAddressValue(socket))
		if err != nil {
			return nil, fmt.Errorf("connecting to the system bus at %q: %w", socket, err)
		}
		l := &login1{conn: conn, shutdowns: make(chan bool, 8)}
		if err := l.subscribe(); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return l, nil
	}
}

// login1 is logind on the bus.
type login1 struct {
	conn      *dbus.Conn
	shutdowns chan bool
}

func (l *login1) subscribe() error {
	err := l.conn.AddMatchSignal(
		dbus.WithMatchSender(service), dbus.WithMatchObjectPath(object), dbus.WithMatchInterface(manager), dbus.WithMatchMember(begins))
	if err != nil {
		return fmt.Errorf("subscribing to %s of systemd-logind: %w", begins, err)
	}
	signals := make(chan *dbus.Signal, 8)
	l.conn.Signal(signals)
	go func() {
		defer close(l.shutdowns)
		for s := range signals { // The connection closes it at its end.
			var begun bool
			if s.Name == manager+"."+begins && dbus.Store(s.Body, &begun) == nil {
				l.shutdowns <- begun
			}
		}
	}()
	return nil
}

// Delay implements Logind.
func (l *login1) Delay(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	const property = "InhibitDelayMaxUSec"
	var micro dbus.Variant
	call := l.conn.Object(service, object).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, manager, property)
	if err := call.Store(&micro); err != nil {
		return 0, fmt.Errorf("asking systemd-logind for %s: %w", property, err)
	}
	n, ok := micro.Value().(uint64)
	if !ok {
		return 0, fmt.Errorf("asking systemd-logind for %s: it is %s, not a number", property, micro)
	}
	return time.Duration(n) * time.Microsecond, nil
}

// Inhibit implements Logind.
func (l *login1) Inhibit(ctx context.Context) (io.Closer, error) {
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	var fd dbus.UnixFD
	call := l.conn.Object(service, object).CallWithContext(ctx, manager+".Inhibit", 0, "shutdown", "cryopod", "Pods are being saved", "delay")
	if err := call.Store(&fd); err != nil {
		return nil, fmt.Errorf("asking systemd-logind to put shutdowns off: %w", err)
	}
	return os.NewFile(uintptr(fd), "logind's inhibitor"), nil
}

// Shutdowns implements Logind.
func (l *login1) Shutdowns() <-chan bool { return l.shutdowns }

// Close implements Logind.
func (l *login1) Close() error { return l.conn.Close() }
