// SPDX-License-Identifier: Apache-2.0

// Package shutdown makes room for saving pods before the machine goes down: it asks systemd-logind to put shutdowns off for as long
// as its configuration allows, announces one when it begins, and lets it go on as soon as no pod has to be saved any more.
//
// See https://systemd.io/INHIBITOR_LOCKS for the protocol.
package shutdown

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// ErrNoBus means that the node has no system bus that the agent could reach.
var ErrNoBus = errors.New("no system bus")

const (
	// lookAgain is how often the agent looks, on the node only, whether pods are left while a shutdown waits.
	lookAgain = 250 * time.Millisecond
	// firstAgain is the pause before the bus is tried again; it doubles up to lastAgain.
	firstAgain = 2 * time.Second
	lastAgain  = time.Minute
	// longestMargin is kept free at the end of logind's patience for the last pods to be killed; of a short one it is a tenth.
	longestMargin = 2 * time.Second
)

// Logind is one connection to systemd-logind.
type Logind interface {
	// Delay is for how long logind puts a shutdown off for those who ask for it.
	Delay(ctx context.Context) (time.Duration, error)
	// Inhibit asks logind to put shutdowns off until the lock is closed.
	Inhibit(ctx context.Context) (lock io.Closer, err error)
	// Shutdowns tells true when a shutdown begins, and false when it was called off. It is closed when the connection has ended.
	Shutdowns() <-chan bool
	// Close ends the connection.
	Close() error
}

// Watcher watches for shutdowns. All fields must be set.
type Watcher struct {
	// Connect connects to logind; ErrNoBus where there is nothing to connect to.
	Connect func(ctx context.Context) (Logind, error)
	// Pods is how many pods of the node are there that may have to be saved.
	Pods func(ctx context.Context) (int, error)
	// Announce publishes the notice of a shutdown; nil takes it back.
	Announce func(*v1alpha1.NodeNotice)
	// Clock is the time.
	Clock clock.Clock
}

// Start watches until ctx ends. Where there is no logind it says so once, and looks again now and then.
func (w *Watcher) Start(ctx context.Context) error {
	ctx = log.IntoContext(ctx, log.FromContext(ctx).WithName("shutdown"))
	told, pause := "", firstAgain
	for {
		began := w.Clock.Now()
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err.Error() != told {
			log.FromContext(ctx).Info("Can't see shutdowns of the machine coming; pods are saved only by what the cluster tells", "reason", err.Error())
			told = err.Error()
		}
		if w.Clock.Since(began) >= lastAgain {
			pause = firstAgain
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.Clock.After(pause):
		}
		pause = min(2*pause, lastAgain)
	}
}

// watch serves one connection. It returns why it ended.
func (w *Watcher) watch(ctx context.Context) error {
	logind, err := w.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = logind.Close() }()
	s := &session{Watcher: w, logind: logind}
	defer s.release()
	if err := s.inhibit(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case begun, open := <-logind.Shutdowns():
			if err := s.signal(ctx, begun, open); err != nil {
				return err
			}
		}
	}
}

// session is what belongs to one connection.
type session struct {
	*Watcher
	logind Logind
	delay  time.Duration
	lock   io.Closer // nil while no shutdown is put off
}

// inhibit takes the lock, unless it is still held.
func (s *session) inhibit(ctx context.Context) error {
	var err error
	if s.delay, err = s.logind.Delay(ctx); err != nil {
		return err
	}
	if s.lock != nil {
		return nil
	}
	if s.lock, err = s.logind.Inhibit(ctx); err != nil {
		return err
	}
	log.FromContext(ctx).Info("Shutdowns of the machine wait for its pods", "longest", s.delay)
	return nil
}

func (s *session) release() {
	if s.lock != nil {
		_ = s.lock.Close()
		s.lock = nil
	}
}

var errBusGone = errors.New("the connection to the system bus has ended")

func (s *session) signal(ctx context.Context, begun, open bool) error {
	switch {
	case !open:
		return errBusGone
	case !begun:
		log.FromContext(ctx).Info("The shutdown was called off")
		s.Announce(nil)
		return s.inhibit(ctx)
	}
	return s.hold(ctx)
}

// hold announces the shutdown and keeps the lock until no pod is left or logind's patience is over; or the shutdown is called off.
func (s *session) hold(ctx context.Context) error {
	began := s.Clock.Now()
	if s.noneLeft(ctx) {
		log.FromContext(ctx).Info("The machine is being shut down; there is no pod to be saved")
		s.release()
		return nil
	}
	s.Announce(notice(began, s.delay))
	log.FromContext(ctx).Info("The machine is being shut down; it waits for its pods to be saved", "longest", s.delay)
	for s.Clock.Since(began) < s.delay {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case begun, open := <-s.logind.Shutdowns():
			if !open || !begun {
				return s.signal(ctx, begun, open)
			}
		case <-s.Clock.After(min(lookAgain, s.delay-s.Clock.Since(began))):
		}
		if s.noneLeft(ctx) {
			log.FromContext(ctx).Info("All pods are gone; the machine goes down", "after", s.Clock.Since(began))
			s.release()
			return nil
		}
	}
	log.FromContext(ctx).Info("The time is up; the machine goes down with pods that may not be saved")
	s.release()
	return nil
}

// noneLeft is whether no pod is left that may have to be saved. While nobody can tell, there may be.
func (s *session) noneLeft(ctx context.Context) bool {
	left, err := s.Pods(ctx)
	if err != nil {
		log.FromContext(ctx).Error(err, "Counting the pods that a shutdown waits for")
	}
	return err == nil && left == 0
}

func notice(now time.Time, delay time.Duration) *v1alpha1.NodeNotice {
	return &v1alpha1.NodeNotice{
		Cause: v1alpha1.NoticeShutdown, Since: metav1.NewMicroTime(now),
		Deadline: metav1.NewMicroTime(now.Add(delay - min(longestMargin, delay/10))),
		Message:  fmt.Sprintf("the machine is being shut down; systemd-logind waits %s for its pods (InhibitDelayMaxSec)", delay),
	}
}
