// SPDX-License-Identifier: Apache-2.0

// Package progress tells a person what long work is doing: a line when a step begins, one now and then while it runs,
// one with its duration when it ends.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Interval is how often a running step says that it is still alive.
const Interval = 15 * time.Second

// Log writes lines about steps, of which several may run at once. A nil Log is silent.
type Log struct {
	mu       sync.Mutex
	writer   io.Writer
	interval time.Duration
}

// New returns a Log that writes to w, or a silent one when w is nil.
func New(w io.Writer) *Log {
	return NewEvery(w, Interval)
}

// NewEvery is New with another interval between two signs of life.
func NewEvery(w io.Writer, interval time.Duration) *Log {
	if w == nil {
		return nil
	}
	return &Log{writer: w, interval: interval}
}

// Printf writes one line.
func (l *Log) Printf(format string, args ...any) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.writer, format+"\n", args...)
}

// Step runs work and tells of it under name.
func (l *Log) Step(name string, work func() error) error {
	if l == nil {
		return work()
	}
	l.Printf("%s: begins", name)
	start := time.Now()
	stop := make(chan struct{})
	var beat sync.WaitGroup
	beat.Go(func() { l.beat(name, start, stop) })
	err := work()
	close(stop)
	beat.Wait()
	took := time.Since(start).Seconds()
	if err != nil {
		l.Printf("%s: failed after %.1f s", name, took)
		return err
	}
	l.Printf("%s: done in %.1f s", name, took)
	return nil
}

func (l *Log) beat(name string, start time.Time, stop <-chan struct{}) {
	ticker := time.NewTicker(l.interval)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			l.Printf("%s: still running after %.0f s", name, time.Since(start).Seconds())
		}
	}
}
