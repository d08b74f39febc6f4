// SPDX-License-Identifier: Apache-2.0

// Package pressure sees a node run out of memory before the kubelet does, and names the pod that should move while it is still alive.
// The kubelet kills pods under memory pressure by itself: no admission is asked, and nothing can be saved any more.
package pressure

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// DefaultThreshold is twice what the kubelet's own hard threshold is by default (memory.available<100Mi).
const DefaultThreshold = 200 << 20

const (
	// period is how often the node's memory is read.
	period = time.Second
	// inARow is how many readings have to be low before a pod moves.
	inARow = 2
	// moving is how long a pod has to be gone; then another one is named.
	moving = time.Minute
	// cooling is the pause after a pod has gone, for its memory to be free and counted.
	cooling = 15 * time.Second
	// sparing is how long a pod is left alone that did not go.
	sparing = 10 * time.Minute
)

// Pod is a pod that may move.
type Pod struct {
	// UID, Namespace and Name are the pod's.
	UID             types.UID
	Namespace, Name string
	// Bytes is the memory that it works with.
	Bytes int64
}

// State is what is known from one reading to the next. Its zero value is a node at rest.
type State struct {
	// Low is how many readings in a row were below the threshold; more are needed above it by a quarter to begin anew.
	Low int
	// Notice is what is announced; nil while nothing is.
	Notice *v1alpha1.NodeNotice
	// Quiet is until when nothing else is announced.
	Quiet time.Time
	// Spared are the pods that did not go, and until when they are left alone.
	Spared map[types.UID]time.Time
}

// Asks tells whether the next step depends on which pods there are.
func (s State) Asks(available, threshold int64, now time.Time) bool {
	return s.Notice != nil || s.low(available, threshold) >= inARow && !now.Before(s.Quiet)
}

// low is how many readings in a row are low after this one.
func (s State) low(available, threshold int64) int {
	switch {
	case available < threshold:
		return s.Low + 1
	case available < threshold+threshold/4 && s.Low >= inARow:
		return s.Low
	default:
		return 0
	}
}

// Next is the state after a reading of so many bytes available. Pods matter where Asks says so. One pod is announced at a time, the
// largest first, and it is carried through even if the memory recovers meanwhile: its move has begun.
func (s State) Next(available, threshold int64, pods []Pod, now time.Time) State {
	asks := s.Asks(available, threshold, now)
	s.Low = s.low(available, threshold)
	switch {
	case !asks:
		return s
	case s.Notice != nil:
		return s.watch(pods, now)
	}
	candidates := slices.DeleteFunc(slices.Clone(pods), func(p Pod) bool { return now.Before(s.Spared[p.UID]) })
	if len(candidates) == 0 {
		s.Quiet = now.Add(cooling)
		return s
	}
	first := slices.MaxFunc(candidates, func(a, b Pod) int { return cmp.Or(cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(b.UID, a.UID)) })
	s.Notice = &v1alpha1.NodeNotice{
		Cause: v1alpha1.NoticeMemoryPressure, Since: metav1.NewMicroTime(now), Deadline: metav1.NewMicroTime(now.Add(moving)),
		Pods: []types.UID{first.UID},
		Message: fmt.Sprintf("the node has %s of memory available, less than %s; pod %q, which uses %s, moves before the kubelet kills it",
			inBytes(available), inBytes(threshold), first.Namespace+"/"+first.Name, inBytes(first.Bytes)),
	}
	return s
}

// watch takes the notice down when its pod is gone, or has not gone in time.
func (s State) watch(pods []Pod, now time.Time) State {
	uid := s.Notice.Pods[0]
	there := slices.ContainsFunc(pods, func(p Pod) bool { return p.UID == uid })
	if there && now.Before(s.Notice.Deadline.Time) {
		return s
	}
	s.Notice, s.Quiet = nil, now.Add(cooling)
	spared := maps.Clone(s.Spared)
	maps.DeleteFunc(spared, func(_ types.UID, until time.Time) bool { return !now.Before(until) })
	if there {
		if spared == nil {
			spared = map[types.UID]time.Time{}
		}
		spared[uid] = now.Add(sparing)
	}
	s.Spared = spared
	return s
}

// Watcher reads the node's memory and announces. All fields must be set.
type Watcher struct {
	// Threshold is how many bytes have to be available.
	Threshold int64
	// Available reads how many are.
	Available func() (int64, error)
	// Pods lists the pods of the node that may move.
	Pods func(context.Context) ([]Pod, error)
	// Announce publishes a notice; nil takes it back.
	Announce func(*v1alpha1.NodeNotice)
	// Clock is the time.
	Clock clock.Clock
}

// Start watches until ctx ends. It reads a file each second; nobody else is asked while there is memory enough.
func (w *Watcher) Start(ctx context.Context) error {
	logger := log.FromContext(ctx).WithName("pressure")
	var state State
	told := ""
	for {
		next, err := w.look(ctx, state)
		switch {
		case err == nil:
			told = ""
		case err.Error() != told && ctx.Err() == nil:
			told = err.Error()
			logger.Error(err, "Watching the node's memory")
		}
		if next.Notice != state.Notice {
			w.Announce(next.Notice)
			if next.Notice != nil {
				logger.Info("Memory runs out; a pod has to move", "why", next.Notice.Message)
			} else {
				logger.Info("The pod that had to move is gone, or did not go in time")
			}
		}
		state = next
		select {
		case <-ctx.Done():
			return nil
		case <-w.Clock.After(period):
		}
	}
}

// look takes one reading. What can't be read changes nothing.
func (w *Watcher) look(ctx context.Context, s State) (State, error) {
	available, err := w.Available()
	if err != nil {
		return s, err
	}
	now := w.Clock.Now()
	var pods []Pod
	if s.Asks(available, w.Threshold, now) {
		if pods, err = w.Pods(ctx); err != nil {
			return s, err
		}
	}
	return s.Next(available, w.Threshold, pods, now), nil
}

func inBytes(n int64) string { return resource.NewQuantity(n>>20<<20, resource.BinarySI).String() }
