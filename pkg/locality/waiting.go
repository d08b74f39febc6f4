// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

const (
	// patienceTick is how often the waiting pods are looked through for those whose patience has run out.
	patienceTick = time.Second

	// hopelessPatience is how long a pod is refused nodes when none that it could wait for can restore it: a little, for what the
	// NodeProfiles say may be just about to change.
	hopelessPatience = 10 * time.Second

	// fallBackTime is what the controllers get to send a pod that was given up back to its base images. A node that can't restore it
	// does not get it before: it might try.
	fallBackTime = 5 * time.Second

	// checkpointWait is how long a new pod waits for its checkpoint, which the webhook claimed before the pod was made, to be seen here. After it the
	// pod is tried by its restore method alone.
	checkpointWait = 5 * time.Second
)

// waiting knows the restoring pods that are not bound yet. It wakes them when something changed for them, and bounds how long
// they are refused nodes.
type waiting struct {
	clock    clock.WithTicker
	patience time.Duration
	// live returns the pod as the scheduler's cache has it now.
	live func(*corev1.Pod) (*corev1.Pod, error)
	// takes reports whether the node of that name, as it is now, may be refused to the pod no longer.
	takes func(pod *corev1.Pod, node string) bool
	// activate moves pods to the scheduler's active queue; those under way are tried again if they come back unscheduled.
	activate func(klog.Logger, map[string]*corev1.Pod)
	// givenUp is told of each pod whose patience has run out, once, with the reason.
	givenUp func(pod *corev1.Pod, why string)

	mu   sync.Mutex
	pods map[types.UID]*waiter
}

type waiter struct {
	pod      *corev1.Pod
	held     time.Time      // when it was first held for its checkpoint; zero before
	tried    bool           // a cycle has begun, or is due although the checkpoint is not known
	refused  time.Time      // the first refusal of a node that would have taken the pod; zero before
	hopeless bool           // no node of the last cycle can restore it, nor will
	stuck    bool           // no node fitted it in the last cycle
	changed  bool           // something has, for the pod, since that cycle began
	opened   string         // the node by which it has; no cycle has seen it yet
	idle     bool           // it was held for that since
	refusals map[string]int // of the last cycle, by their message
	givenUp  time.Time      // when its patience had run out; zero before
	woken    bool           // after that, to go anywhere
}

func newWaiting(clk clock.WithTicker, patience time.Duration) *waiting {
	return &waiting{clock: clk, patience: patience, pods: map[types.UID]*waiter{}}
}

// entry is the pod's, made where there is none. The lock is held.
func (w *waiting) entry(pod *corev1.Pod) *waiter {
	entry := w.pods[pod.UID]
	if entry == nil {
		entry = &waiter{}
		w.pods[pod.UID] = entry
	}
	entry.pod = pod
	return entry
}

// hold returns why a scheduling cycle of the pod would be wasted now, and whether that is news; empty when one is due. seen tells whether the pod's
// checkpoint is known; it is asked after the pod was noted, so that a checkpoint that comes at that moment wakes it. No pod is held for ever: the
// first reason lasts for checkpointWait, the second until the pod's patience has run out, and a pod that loses none is not held for it.
func (w *waiting) hold(pod *corev1.Pod, seen func() bool) (why holdReason, news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	entry := w.entry(pod)
	switch {
	case w.patience == 0:
		return "", false
	case !entry.tried && !seen():
		if news = entry.held.IsZero(); news {
			entry.held = w.clock.Now()
		}
		if entry.tried = w.clock.Since(entry.held) >= checkpointWait; entry.tried {
			return "", false
		}
		return heldForCheckpoint, news
	case entry.stuck && !entry.changed && !entry.refused.IsZero() && !w.anywhere(entry):
		news, entry.idle = !entry.idle, true
		return heldForNode, news
	}
	return "", false
}

// enter notes that a scheduling cycle of the pod begins, and reports whether nodes may be refused in it. It is called before
// the cycle reads anything, so that a change during the cycle is not lost.
func (w *waiting) enter(pod *corev1.Pod) (patient bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	entry := w.entry(pod)
	entry.refusals = map[string]int{}
	entry.tried, entry.hopeless, entry.stuck, entry.changed, entry.idle = true, false, false, false, false
	return w.patience > 0 && !w.anywhere(entry)
}

// expect notes what may come of the pod's cycle: whether any node fits it as it is, and whether there is one to wait for.
func (w *waiting) expect(pod *corev1.Pod, fits, hope bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	entry := w.pods[pod.UID]
	if entry == nil {
		return
	}
	entry.stuck, entry.hopeless = !fits, !hope
	if entry.opened != "" && !fits && w.takes(pod, entry.opened) {
		// The cycle's view of the nodes was older than what the pod was woken for: it has to see the next.
		entry.changed = true
		return
	}
	entry.opened = ""
}

// refuse notes that a node was refused to the pod that would have taken it otherwise, with what people are told.
func (w *waiting) refuse(pod *corev1.Pod, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	entry := w.pods[pod.UID]
	if entry == nil {
		return
	}
	entry.refusals[message]++
	if entry.refused.IsZero() {
		entry.refused = w.clock.Now()
	}
}

// impatient tells whether the pod has been refused nodes for long enough.
func (w *waiting) impatient(entry *waiter) bool {
	limit := w.patience
	if entry.hopeless {
		limit = min(limit, hopelessPatience)
	}
	return !entry.refused.IsZero() && w.clock.Since(entry.refused) >= limit
}

// anywhere tells whether the pod was given up, and nobody sent it back to its base images since.
func (w *waiting) anywhere(entry *waiter) bool {
	return !entry.givenUp.IsZero() && w.clock.Since(entry.givenUp) >= fallBackTime
}

// why says what kept the pod from being placed.
func (e *waiter) why(waited time.Duration) string {
	reasons := make([]string, 0, len(e.refusals))
	for _, message := range slices.Sorted(maps.Keys(e.refusals)) {
		reasons = append(reasons, fmt.Sprintf("%d %s", e.refusals[message], message))
	}
	begin := "no node can restore it"
	if !e.hopeless {
		begin = "no node that can restore it had room for it within " + waited.String()
	}
	return begin + ": " + strings.Join(reasons, ", ")
}

// wake has the pods scheduled again for which concerns returns true.
func (w *waiting) wake(logger klog.Logger, concerns func(*corev1.Pod) bool) {
	w.sweep(logger, func(entry *waiter) bool { return entry.concerned(concerns) })
}

// fitted has the pods scheduled again that a node fits now. One that has had no cycle yet is going to see the node in its first: when the scheduler
// starts, thousands of nodes come while thousands of pods wait.
func (w *waiting) fitted(logger klog.Logger, fits func(*corev1.Pod) bool) {
	w.sweep(logger, func(entry *waiter) bool { return entry.tried && entry.concerned(fits) })
}

// opened is fitted for the node of that name, of which a cycle that began before may have an older view.
func (w *waiting) opened(logger klog.Logger, node string, takes func(*corev1.Pod) bool) {
	w.sweep(logger, func(entry *waiter) bool {
		if !entry.tried || !entry.concerned(takes) {
			return false
		}
		entry.opened = node
		return true
	})
}

// concerned notes that something has changed for the pod, where it concerns it and the pod does not go anywhere by now.
func (e *waiter) concerned(concerns func(*corev1.Pod) bool) bool {
	if e.woken || !concerns(e.pod) {
		return false
	}
	e.changed = true
	return true
}

// run gives each pod up once, when its patience has run out, and has it scheduled again once when it may go anywhere, and once when its checkpoint
// did not come, until ctx is done.
func (w *waiting) run(ctx context.Context) {
	logger := klog.FromContext(ctx)
	ticker := w.clock.NewTicker(patienceTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			w.tick(logger)
		}
	}
}

func (w *waiting) tick(logger klog.Logger) {
	type lost struct {
		pod *corev1.Pod
		why string
	}
	var givenUp []lost
	w.prune()
	w.sweep(logger, func(entry *waiter) bool {
		if !entry.tried && !entry.held.IsZero() && w.clock.Since(entry.held) >= checkpointWait {
			entry.tried = true
			return true
		}
		if entry.givenUp.IsZero() {
			if w.impatient(entry) {
				entry.givenUp = w.clock.Now()
				givenUp = append(givenUp, lost{entry.pod, entry.why(w.patience)})
			}
			return false
		}
		if entry.woken || !w.anywhere(entry) {
			return false
		}
		entry.woken = true
		return true
	})
	for _, l := range givenUp {
		logger.Info("No node that can restore the pod took it in time", "pod", klog.KObj(l.pod), "reason", l.why)
		w.givenUp(l.pod, l.why)
	}
}

// sweep activates the chosen ones of the pods that still wait.
func (w *waiting) sweep(logger klog.Logger, chosen func(*waiter) bool) {
	pods := map[string]*corev1.Pod{}
	w.mu.Lock()
	for uid, entry := range w.pods {
		if !chosen(entry) {
			continue
		}
		if live := w.still(uid, entry); live != nil {
			pods[klog.KObj(live).String()] = live
		}
	}
	w.mu.Unlock()
	if len(pods) > 0 {
		w.activate(logger, pods)
	}
}

// prune forgets the pods that do not wait any more.
func (w *waiting) prune() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for uid, entry := range w.pods {
		w.still(uid, entry)
	}
}

// still returns the pod as it is now, and forgets it where it does not wait any more. The lock is held.
func (w *waiting) still(uid types.UID, entry *waiter) *corev1.Pod {
	live, err := w.live(entry.pod)
	if err != nil || live.UID != uid || live.Spec.NodeName != "" || !restoring(live) {
		delete(w.pods, uid)
		return nil
	}
	return live
}
