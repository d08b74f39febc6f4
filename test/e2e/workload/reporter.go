// SPDX-License-Identifier: Apache-2.0

// Package workload is what the end-to-end tests move between nodes: processes that tell the recorder of every step before they count
// it done, hold memory whose loss they would notice, and survive that their connections are gone after a restore.
package workload

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/cryopod/cryopod/test/e2e/recorder"
)

const (
	// ioTimeout bounds a dial, and a message with its answer: a peer that vanished must not hold a step up for long.
	ioTimeout = time.Second
	// retryPause keeps a workload whose recorder is away from spinning.
	retryPause = 20 * time.Millisecond
)

// Reporter sends messages to the recorder over one connection, which it keeps open between them. It is not safe for concurrent use.
type Reporter struct {
	// Address is the recorder's host and port.
	Address string

	conn    net.Conn
	answers *bufio.Reader
	pod     string
}

// Report returns once the recorder has m in its log. It tries again, with the same nonce, until then or until ctx is done.
func (r *Reporter) Report(ctx context.Context, m recorder.Message) error {
	for {
		err := r.try(ctx, m)
		if err == nil {
			return nil
		}
		r.disconnect()
		select {
		case <-ctx.Done():
			return fmt.Errorf("reporting step %d of %q: %w (last error: %w)", m.Step, m.Workload, ctx.Err(), err)
		case <-time.After(retryPause):
		}
	}
}

func (r *Reporter) try(ctx context.Context, m recorder.Message) error {
	if err := r.connect(ctx); err != nil {
		return err
	}
	m.Pod = r.pod
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := r.conn.SetDeadline(time.Now().Add(ioTimeout)); err != nil {
		return err
	}
	if _, err := r.conn.Write(append(line, '\n')); err != nil {
		return err
	}
	answer, err := r.answers.ReadString('\n')
	if err != nil {
		return err
	}
	if answer != "ok "+m.Nonce+"\n" {
		return fmt.Errorf("recorder answered %q", strings.TrimSpace(answer))
	}
	return nil
}

func (r *Reporter) connect(ctx context.Context) error {
	if r.conn != nil {
		return nil
	}
	dialer := net.Dialer{Timeout: ioTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", r.Address)
	if err != nil {
		return err
	}
	r.conn, r.answers = conn, bufio.NewReader(conn)
	// The environment and the UTS namespace come from the checkpoint; this file is mounted by the pod that the process is in now.
	name, err := os.ReadFile("/etc/hostname")
	if err != nil {
		return err
	}
	r.pod = strings.TrimSpace(string(name))
	return nil
}

func (r *Reporter) disconnect() {
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
}
