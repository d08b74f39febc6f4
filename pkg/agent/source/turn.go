// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/metrics"
	planner "github.com/cryopod/cryopod/pkg/plan"
)

const (
	// lookAgain is after how long a waiting checkpoint's pod is looked at again: it may be gone, or have grown.
	lookAgain = time.Minute
	// burst is how long a checkpoint of a node that ends waits for the others: all of its pods' are made at once, and the first to come need
	// not be the first to go.
	burst = 150 * time.Millisecond
	// together is how many that wait look each at every half second.
	together = 16
	// guess is the memory of a pod about which nothing is known.
	guess = 256 << 20
)

// Usage tells how much of a container would be dumped.
type Usage interface {
	// AnonymousMemory is what a container's processes hold that no file backs, in bytes.
	AnonymousMemory(ctx context.Context, containerID string) (int64, error)
}

// verdict is what the plan says of a waiting checkpoint.
type verdict int

const (
	later verdict = iota
	turn
	never
)

// waiting is a checkpoint that waits for its turn.
type waiting struct {
	uid     types.UID
	podUID  types.UID
	job     planner.Job
	settles time.Time // from when on it is planned
	seen    time.Time // when its pod was looked at
	verdict verdict
	why     error // for never
}

// turns decides whose turn it is. The reconciler's mutex guards it.
type turns struct {
	waiting map[types.NamespacedName]*waiting
	rates   rates
	planned time.Time
	dirty   bool // something happened since
}

// standing is what is known of a waiting checkpoint without asking anyone; ok is false where its pod has to be looked at.
func (r *Reconciler) standing(key types.NamespacedName, uid types.UID) (w waiting, ok bool) {
	r.mu.Lock()
	wake := r.replan(false)
	found := r.turns.waiting[key]
	if found != nil && found.uid == uid {
		// Another attempt that saves the pod may have to give way to it.
		w, ok = *found, r.Clock.Since(found.seen) < lookAgain && !r.saves(found)
	}
	r.mu.Unlock()
	r.wakeAll(wake, key)
	return w, ok
}

// lineUp adds a checkpoint to those that wait, or renews what is known of it, and returns what the plan says of it.
func (r *Reconciler) lineUp(ctx context.Context, pc *v1alpha1.PodCheckpoint, pod *corev1.Pod, p *plan) waiting {
	key := client.ObjectKeyFromObject(pc)
	bytes := r.measure(ctx, pod, p.save)
	now := r.Clock.Now()
	w := &waiting{uid: pc.UID, podUID: pod.UID, seen: now, job: planner.Job{
		ID: key.String(), Bytes: bytes, Weight: planner.Weight(pc.Spec.Value, pc.Spec.Priority), Arrived: pc.CreationTimestamp.Time,
		Background: pc.Spec.Reason == v1alpha1.ReasonSchedule, MaxFreeze: (&attempt{pc: pc, plan: p}).patience().span,
	}}
	if d := pc.Spec.Deadline; d != nil {
		w.job.Deadline = d.Time
	}
	if !pc.Spec.Fence {
		w.job.MaxFreeze = 0 // It goes on before its push, which takes as long as it takes.
	}
	r.mu.Lock()
	if r.turns.waiting == nil {
		r.turns.waiting = map[types.NamespacedName]*waiting{}
	}
	if before := r.turns.waiting[key]; before != nil && before.uid == w.uid {
		w.settles, w.verdict, w.why = before.settles, before.verdict, before.why
	} else if pc.Spec.Reason == v1alpha1.ReasonTermination {
		w.settles = now.Add(burst)
	}
	r.turns.waiting[key] = w
	metrics.SetWaiting(len(r.turns.waiting))
	if _, err := r.Disk.fits(diskFor(bytes), r.reserved()); err != nil {
		w.verdict, w.why = never, err
	} else {
		// Whoever comes while all places are taken is planned with the others, when something happens or half a second has passed.
		r.turns.dirty = r.turns.dirty || len(r.running) < r.MaxParallel
	}
	wake := r.replan(false)
	result := *w
	r.mu.Unlock()
	r.wakeAll(wake, key)
	return result
}

// measure is how much memory of the pod would be dumped. What can't be read is taken from what its owner asked for.
func (r *Reconciler) measure(ctx context.Context, pod *corev1.Pod, containers []fence.Container) int64 {
	var sum int64
	for _, c := range containers {
		var bytes int64
		if r.Usage != nil {
			var err error
			if bytes, err = r.Usage.AnonymousMemory(ctx, c.ID); err != nil {
				log.FromContext(ctx).V(1).Info("Guessing how much memory is in use", "container", c.Name, "error", err.Error())
			}
		}
		if bytes <= 0 {
			bytes = requested(pod, c.Name)
		}
		sum += bytes
	}
	return sum
}

func requested(pod *corev1.Pod, container string) int64 {
	for _, containers := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for _, c := range containers {
			if m := c.Resources.Requests.Memory(); c.Name == container && !m.IsZero() {
				return m.Value()
			}
		}
	}
	return guess
}

// pause is after how long a waiting checkpoint is looked at again if nothing happens. Whoever is looked at first has all of them planned
// anew, and those are woken whom it concerns: the more there are, the less often each one has to ask.
func (r *Reconciler) pause(w waiting) time.Duration {
	if left := w.settles.Sub(r.Clock.Now()); left > 0 {
		return left
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return whenFull * time.Duration(1+len(r.turns.waiting)/together)
}

// watch plans anew while an attempt is under way that has a deadline, though nothing happens: it may take longer than it should.
func (r *Reconciler) watch(run *running) ctrl.Result {
	r.mu.Lock()
	wake := r.replan(false)
	r.mu.Unlock()
	r.wakeAll(wake, types.NamespacedName{})
	if run.job.Deadline.IsZero() {
		return ctrl.Result{}
	}
	return ctrl.Result{RequeueAfter: whenFull}
}

// outOfLine forgets a checkpoint that does not wait any more.
func (r *Reconciler) outOfLine(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.turns.waiting[key]; there {
		delete(r.turns.waiting, key)
		r.turns.dirty = true
		metrics.SetWaiting(len(r.turns.waiting))
	}
}

// replan plans anew when something happened or the last plan is old, and returns whose turn it is. The caller holds the mutex.
func (r *Reconciler) replan(force bool) (wake []types.NamespacedName) {
	now := r.Clock.Now()
	t := &r.turns
	if len(t.waiting) == 0 && len(r.running) == 0 || !force && !t.dirty && now.Sub(t.planned) < whenFull {
		return nil
	}
	t.planned, t.dirty = now, false
	in, keys := r.input(now)
	p := planner.Make(in)
	for _, w := range t.waiting {
		if w.verdict == turn {
			w.verdict = later
		}
	}
	for _, id := range p.Start {
		t.waiting[keys[id]].verdict = turn
		wake = append(wake, keys[id])
	}
	for _, s := range p.Refuse {
		w := t.waiting[keys[s.ID]]
		w.verdict, w.why = never, refusal(s)
		wake = append(wake, keys[s.ID])
	}
	for _, s := range p.Cancel {
		run := r.running[keys[s.ID]]
		run.ended = true
		run.cancel(refusal(s))
	}
	return wake
}

// input is what the planner has to know.
func (r *Reconciler) input(now time.Time) (planner.Input, map[string]types.NamespacedName) {
	in := planner.Input{Now: now, Slots: r.MaxParallel, Rates: r.turns.rates.now(now), Margin: margin, Room: r.Disk.room(r.reserved())}
	keys := map[string]types.NamespacedName{}
	for key, w := range r.turns.waiting {
		if w.verdict != never && !now.Before(w.settles) && !r.saves(w) {
			in.Jobs = append(in.Jobs, w.job)
			keys[w.job.ID] = key
		}
	}
	for key, run := range r.running {
		if run.ended {
			continue
		}
		job := run.job
		job.Frozen = now.Sub(run.began)
		job.Left = r.turns.rates.left(run, now)
		in.Jobs = append(in.Jobs, job)
		keys[job.ID] = key
	}
	return in, keys
}

// saves reports whether the pod of a waiting checkpoint is being saved by another one.
func (r *Reconciler) saves(w *waiting) bool {
	for _, run := range r.running {
		if run.podUID == w.podUID {
			return true
		}
	}
	return false
}

// wakeAll has the others looked at whose turn it is. It is called without the mutex.
func (r *Reconciler) wakeAll(keys []types.NamespacedName, but types.NamespacedName) {
	for _, key := range keys {
		if key != but {
			r.Wake(key)
		}
	}
}

// reserved is the disk that is set aside. The caller holds the mutex.
func (r *Reconciler) reserved() int64 {
	var sum int64
	for _, run := range r.running {
		sum += run.disk
	}
	return sum
}
