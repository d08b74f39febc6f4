// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cryopod/cryopod/test/e2e/recorder"
)

// ErrFault says that a workload found its own memory or files to be other than it left them. Trying again can't help.
var ErrFault = errors.New("state is not what it was left as")

// Source does the work of a step and numbers it. Asked again with the same nonce, after an error, it must not do the work twice.
type Source interface {
	Next(ctx context.Context, nonce string) (int64, error)
}

// Task is done with each step before the step is reported. An error is a fault.
type Task interface {
	Do(step int64) error
}

// Workload is one process of steps.
type Workload struct {
	// Name is the recorder's name for it.
	Name     string
	Reporter *Reporter
	Source   Source
	Tasks    []Task
	Ballast  *Ballast
	// Interval is the time between the beginnings of two steps.
	Interval time.Duration
	// Until is the step after which Run returns; 0 is never.
	Until int64
}

// Run does steps until the last one, until ctx is done, or until it finds a fault, which it reports.
func (w *Workload) Run(ctx context.Context) error {
	message := recorder.Message{Workload: w.Name, Bytes: w.Ballast.Bytes()}
	ticker := time.NewTicker(w.Interval)
	defer ticker.Stop()
	for {
		nonce, err := drawNonce()
		if err != nil {
			return err
		}
		message.Nonce = nonce
		if err := w.step(ctx, &message); err != nil {
			return w.tell(ctx, message, err)
		}
		if err := w.Reporter.Report(ctx, message); err != nil {
			return err
		}
		message.Done = message.Step
		if w.Until > 0 && message.Done >= w.Until {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func (w *Workload) step(ctx context.Context, m *recorder.Message) error {
	step, err := w.next(ctx, m.Nonce)
	if err != nil {
		return err
	}
	m.Step = step
	w.Ballast.Touch(step)
	checked, err := w.Ballast.Verify()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFault, err)
	}
	m.Verified += checked
	for _, task := range w.Tasks {
		if err := task.Do(step); err != nil {
			return fmt.Errorf("%w: %w", ErrFault, err)
		}
	}
	return nil
}

func (w *Workload) next(ctx context.Context, nonce string) (int64, error) {
	for {
		step, err := w.Source.Next(ctx, nonce)
		if err == nil || errors.Is(err, ErrFault) {
			return step, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("doing a step of %q: %w (last error: %w)", w.Name, ctx.Err(), err)
		case <-time.After(retryPause):
		}
	}
}

func (w *Workload) tell(ctx context.Context, m recorder.Message, err error) error {
	if errors.Is(err, ErrFault) {
		m.Fault = err.Error()
		err = errors.Join(err, w.Reporter.Report(ctx, m))
	}
	return err
}

// drawNonce reads the kernel's device: a generator in user space, the vDSO's too, is part of a checkpoint, and two processes
// restored from one would draw the same numbers.
func drawNonce() (string, error) {
	f, err := os.Open("/dev/urandom")
	if err != nil {
		return "", fmt.Errorf("drawing a nonce: %w", err)
	}
	defer f.Close()
	var b [12]byte
	if _, err := io.ReadFull(f, b[:]); err != nil {
		return "", fmt.Errorf("drawing a nonce: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}
