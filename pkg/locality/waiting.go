// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// patienceTick is how often the waiting pods are looked through for those whose patience has run out.
const patienceTick = time.Second

// waiting knows the restoring pods that are not bound yet. It wakes them when something changed for them, and bounds how long
// they are refused nodes.
type waiting struct {
	clock    clock.WithTicker
	patience time.Duration
	// live returns the pod as the scheduler's cache has it now.
	live func(*corev1.Pod) (*corev1.Pod, error)
	// activate moves pods to the scheduler's active queue; those under way are tried again if they come back unscheduled.
	activate func(klog.Logger, map[string]*corev1.Pod)
	// givenUp is told of each pod whose patience has run out, once.
	givenUp func(*corev1.Pod)

	mu   sync.Mutex
	pods map[types.UID]*waiter
}

type waiter struct {
	pod     *corev1.Pod
	refused time.Time // the first refusal of a node that would have taken the pod; zero before
	woken   bool      // when its patience had run out
}

func newWaiting(clk clock.WithTicker, patience time.Duration) *waiting {
	return &waiting{clock: clk, patience: patience, pods: map[types.UID]*waiter{}}
}

// enter notes that a scheduling cycle of the pod begins, and reports whether nodes may be refused in it. It is called before
// the cycle reads anything, so that a change during the cycle is not lost.
func (w *waiting) enter(pod *corev1.Pod) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	entry := w.pods[pod.UID]
	if entry == nil {
		entry = &waiter{}
		w.pods[pod.UID] = entry
	}
	entry.pod = pod
	return w.patience > 0 && !w.impatient(entry)
}

// refuse notes that a node was refused to the pod that would have taken it otherwise.
func (w *waiting) refuse(pod *corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if entry := w.pods[pod.UID]; entry != nil && entry.refused.IsZero() {
		entry.refused = w.clock.Now()
	}
}

func (w *waiting) impatient(entry *waiter) bool {
	return !entry.refused.IsZero() && w.clock.Since(entry.refused) >= w.patience
}

// wake has the pods scheduled again for which concerns returns true.
func (w *waiting) wake(logger klog.Logger, concerns func(*corev1.Pod) bool) {
	w.sweep(logger, func(entry *waiter) bool { return !entry.woken && concerns(entry.pod) })
}

// run has each pod scheduled again once, when its patience has run out, until ctx is done.
func (w *waiting) run(ctx context.Context) {
	logger := klog.FromContext(ctx)
	ticker := w.clock.NewTicker(patienceTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			impatient := w.sweep(logger, func(entry *waiter) bool {
				if entry.woken || !w.impatient(entry) {
					return false
				}
				entry.woken = true
				return true
			})
			for _, pod := range impatient {
				logger.Info("No node that can restore the pod took it in time", "pod", klog.KObj(pod), "patience", w.patience)
				w.givenUp(pod)
			}
		}
	}
}

// sweep activates and returns the chosen ones of the pods that still wait, and forgets those that do not.
func (w *waiting) sweep(logger klog.Logger, chosen func(*waiter) bool) map[string]*corev1.Pod {
	pods := map[string]*corev1.Pod{}
	w.mu.Lock()
	for uid, entry := range w.pods {
		live, err := w.live(entry.pod)
		if err != nil || live.UID != uid || live.Spec.NodeName != "" || !restoring(live) {
			delete(w.pods, uid)
			continue
		}
		if chosen(entry) {
			pods[klog.KObj(live).String()] = live
		}
	}
	w.mu.Unlock()
	if len(pods) > 0 {
		w.activate(logger, pods)
	}
	return pods
}
