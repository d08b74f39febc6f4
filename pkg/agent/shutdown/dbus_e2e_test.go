// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package shutdown_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/agent/shutdown"
)

// Of systemd-logind, as its manual page org.freedesktop.login1(5) has it.
const (
	login1        = "org.freedesktop.login1"
	login1Object  = dbus.ObjectPath("/org/freedesktop/login1")
	login1Manager = login1 + ".Manager"
)

// patience is what the bus, and what goes over it, may take.
const patience = 10 * time.Second

// bus is a real dbus-daemon of its own.
type bus struct {
	socket string
	daemon *exec.Cmd
}

func startBus(t *testing.T, socket string) *bus {
	t.Helper()
	config := filepath.Join(t.TempDir(), "bus.conf")
	text := fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/><allow user="*"/>
  </policy>
</busconfig>`, socket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &bus{socket: socket, daemon: exec.CommandContext(context.WithoutCancel(t.Context()), "dbus-daemon", "--nofork", "--nopidfile", "--config-file="+config)}
	b.daemon.Stderr = os.Stderr
	b.daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.daemon.Start(); err != nil {
		t.Fatalf("starting dbus-daemon (Debian package dbus): %v", err)
	}
	t.Cleanup(b.stop)
	await(t, "dbus-daemon listens", func() bool { _, err := os.Stat(socket); return err == nil })
	return b
}

func (b *bus) stop() {
	_ = b.daemon.Process.Kill()
	_ = b.daemon.Wait()
	_ = os.Remove(b.socket)
}

// logind answers on the bus like systemd-logind.
type logind struct {
	conn  *dbus.Conn
	asked chan []string // the arguments of each Inhibit
	locks chan lock
}

// lock is an inhibitor: a pipe. The bus sends a copy of its end.
type lock struct{ read, write *os.File }

func startLogind(t *testing.T, socket string, delay time.Duration) *logind {
	t.Helper()
	conn, err := dbus.Connect("unix:path=" + socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	l := &logind{conn: conn, asked: make(chan []string, 8), locks: make(chan lock, 8)}
	properties := prop.Map{login1Manager: {"InhibitDelayMaxUSec": {Value: uint64(delay / time.Microsecond)}}}
	_, err = prop.Export(conn, login1Object, properties)
	if err = errors.Join(err, conn.Export(l, login1Object, login1Manager)); err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.RequestName(login1, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("taking the name %q: %v, %v", login1, reply, err)
	}
	return l
}

// Inhibit is called over the bus.
func (l *logind) Inhibit(what, who, _, mode string) (dbus.UnixFD, *dbus.Error) {
	read, write, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	l.asked <- []string{what, who, mode}
	l.locks <- lock{read: read, write: write}
	return dbus.UnixFD(write.Fd()), nil
}

func (l *logind) prepareForShutdown(t *testing.T, begun bool) {
	t.Helper()
	if err := l.conn.Emit(login1Object, login1Manager+".PrepareForShutdown", begun); err != nil {
		t.Fatal(err)
	}
}

// inhibited returns the next inhibitor that was taken.
func (l *logind) inhibited(t *testing.T) lock {
	t.Helper()
	select {
	case asked := <-l.asked:
		if asked[0] != "shutdown" || asked[1] != "cryopod" || asked[2] != "delay" {
			t.Fatalf("asked for an inhibitor %q", asked)
		}
		return <-l.locks
	case <-time.After(patience):
		t.Fatal("nobody asks for an inhibitor")
		return lock{}
	}
}

// letGo waits until the inhibitor is closed everywhere, as logind does.
func letGo(t *testing.T, l lock, within time.Duration) {
	t.Helper()
	if err := errors.Join(l.write.Close(), l.read.SetReadDeadline(time.Now().Add(within))); err != nil {
		t.Fatal(err)
	}
	if _, err := l.read.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("the inhibitor is held after %s: %v", within, err)
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come about that %s", what)
		}
	}
}

// TestRealBus goes through a shutdown that is called off, a bus that is restarted, and a shutdown that comes about.
func TestRealBus(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	first := startBus(t, socket)
	l := startLogind(t, socket, patience)
	m := newMachine(1)
	w := m.watcher()
	w.Connect, w.Clock = shutdown.Dial(socket), clock.RealClock{}
	begin(t, w)
	held := l.inhibited(t)

	const notice = "announced Shutdown by 9s"
	told := func(want string) {
		t.Helper()
		await(t, want, func() bool { got := m.told(); return len(got) == 1 && got[0] == want })
	}
	l.prepareForShutdown(t, true)
	told(notice)
	l.prepareForShutdown(t, false)
	told("called off")

	first.stop()
	letGo(t, held, patience)
	startBus(t, socket)
	l = startLogind(t, socket, patience)
	held = l.inhibited(t)
	l.prepareForShutdown(t, true)
	told(notice)
	began := time.Now()
	m.set(0, nil)
	letGo(t, held, patience/2)
	t.Logf("let go %s after the last pod had gone", time.Since(began))
}

func TestNoBus(t *testing.T) {
	_, err := shutdown.Dial(filepath.Join(t.TempDir(), "bus"))(t.Context())
	if !errors.Is(err, shutdown.ErrNoBus) {
		t.Errorf("Dial of nothing = %v", err)
	}
}

// TestNoLogind has a bus on which nobody is systemd-logind.
func TestNoLogind(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	startBus(t, socket)
	conn, err := shutdown.Dial(socket)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Inhibit(t.Context()); err == nil {
		t.Error("an inhibitor of nobody")
	}
}
