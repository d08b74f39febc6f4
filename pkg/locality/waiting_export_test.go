// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// Waiting is waiting with one pod.
type Waiting struct {
	*waiting
	pod *corev1.Pod
	// Activated counts how often the pod was put back into the active queue.
	Activated int
	// Takes is whether the node that Open opened takes the pod, Asked how often somebody wanted to know, or whether it still waits.
	Takes bool
	Asked int
}

// NewWaiting has a pod that restores and is not bound.
func NewWaiting(clk clock.WithTicker, patience time.Duration, pod *corev1.Pod) *Waiting {
	w := &Waiting{waiting: newWaiting(clk, patience), pod: pod}
	w.live = func(*corev1.Pod) (*corev1.Pod, error) { w.Asked++; return pod, nil }
	w.activate = func(klog.Logger, map[string]*corev1.Pod) { w.Activated++ }
	w.takes = func(*corev1.Pod, string) bool { return w.Takes }
	w.givenUp = func(*corev1.Pod, string) {}
	return w
}

// Cycle is a scheduling cycle that finds whether any node fits and whether one that would have taken the pod was refused; meanwhile things happen.
func (w *Waiting) Cycle(fits, refused bool, meanwhile ...func()) {
	w.enter(w.pod)
	for _, happens := range meanwhile {
		happens()
	}
	w.expect(w.pod, fits, fits)
	if refused {
		w.refuse(w.pod, "node(s) that can't")
	}
}

// Wake is wake for the pod.
func (w *Waiting) Wake() { w.wake(klog.Background(), func(*corev1.Pod) bool { return true }) }

// Open is opened for the pod.
func (w *Waiting) Open() {
	w.Takes = true
	w.opened(klog.Background(), "node", func(*corev1.Pod) bool { w.Asked++; return true })
}

// Fit is fitted for the pod.
func (w *Waiting) Fit() {
	w.fitted(klog.Background(), func(*corev1.Pod) bool { w.Asked++; return true })
}

// Tick is tick.
func (w *Waiting) Tick() { w.tick(klog.Background()) }

// Hold is hold, for a pod whose checkpoint was seen or not; empty when the pod is to be tried.
func (w *Waiting) Hold(seen bool) (why string, news bool) {
	reason, news := w.hold(w.pod, func() bool { return seen })
	return string(reason), news
}
