// SPDX-License-Identifier: Apache-2.0

// Package source saves the pods of one node: it takes each PodCheckpoint of the node from Pending to Ready, keeps the source frozen
// until it is deleted, and lets it go on where nobody takes the checkpoint.
//
// One rule keeps a process from living twice: a frozen pod is thawed only when its PodCheckpoint can't be claimed any more (it is
// final, without a claim, and that is written; or it is gone while the pod was never deleted), and a claim is only written
// against Ready. Both go by resourceVersion, so one of them loses. A checkpoint without a fence is thawed as soon as it is dumped: it is
// claimed only when its pod is taken to have gone with its node. Where it has not, the agent freezes it for good as soon as it learns of that.
package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
	planner "github.com/cryopod/cryopod/pkg/plan"
)

const (
	// whenFull is how long a checkpoint waits for its turn while as many as may are under way.
	whenFull = 500 * time.Millisecond
	// whenHeld is how long a checkpoint waits for another one of the same pod.
	whenHeld = time.Second
	// watchFrozen is how often the agent looks, on the node only, whether a frozen pod still stands still.
	watchFrozen = 2 * time.Second
	// watchGone is how often it looks, on the node only, whether a claimed pod's processes are gone.
	watchGone = 10 * time.Second
)

// Part is one container of a checkpoint on its way to the registry.
type Part struct {
	// Checkpoint is the PodCheckpoint.
	Checkpoint types.NamespacedName
	// Pod is the checkpointed pod.
	Pod *corev1.Pod
	// Container is the container.
	Container fence.Container
	// BaseImage is the image that the pod's owner wrote for it.
	BaseImage string
	// Archive is the path of the kubelet's archive.
	Archive string
}

// Dumper makes the archive of a frozen container.
type Dumper interface {
	// Dump returns the path of the archive. The error says in one sentence why there is none.
	Dump(ctx context.Context, namespace, pod string, c fence.Container) (string, error)
}

// Exporter brings archives to where other nodes can get them, and takes back what is of no use.
type Exporter interface {
	// Export makes an image of the part's archive, and removes the archive however it ends.
	Export(ctx context.Context, p Part) (v1alpha1.ContainerCheckpoint, error)
	// Clean removes the archives of a pod's containers that were begun in a span of time.
	Clean(ctx context.Context, namespace, pod string, from, to time.Time) error
	// Withdraw removes the images of a PodCheckpoint's containers. One that is not there is no error.
	Withdraw(ctx context.Context, checkpoint types.NamespacedName, containers []string) error
}

// Recorder records events for people.
type Recorder interface {
	// Event records one about the PodCheckpoint, and on its pod too unless somebody else has done so.
	Event(pc *v1alpha1.PodCheckpoint, warning bool, reason, note string)
}

// Reconciler brings the PodCheckpoints of one node forward. All fields must be set that do not say what nil means.
type Reconciler struct {
	// Client reads PodCheckpoints from the node's cache and writes their status.
	Client client.Client
	// Live reads past the cache.
	Live client.Reader
	// Fence freezes and thaws.
	Fence fence.Fence
	// Processes tells what still runs of pods that were taken for lost; nil: nothing is known of them.
	Processes Processes
	// Ledger is the node's record of what is frozen.
	Ledger *fence.Ledger
	// Dumper makes archives, Exporter takes them away.
	Dumper   Dumper
	Exporter Exporter
	// Requirements tells what a node must offer for what is dumped here.
	Requirements func() *v1alpha1.Requirements
	// Recorder tells people.
	Recorder Recorder
	// Clock is the time.
	Clock clock.WithDelayedExecution
	// MaxParallel bounds how many pods are saved at the same time.
	MaxParallel int
	// Usage tells how much there is to dump; nil: it is guessed.
	Usage Usage
	// Disk bounds what dumps take of the node's disk.
	Disk Disk
	// Wake makes Reconcile be called for a PodCheckpoint.
	Wake func(types.NamespacedName)

	mu      sync.Mutex
	running map[types.NamespacedName]*running
	causes  map[types.NamespacedName]error // of attempts that could not write that they failed
	halted  map[types.UID]struct{}         // pods that were taken for lost and still have processes here
	turns   turns
	ending  *ending // nil until Stop
	group   sync.WaitGroup
}

// running is an attempt that is under way.
type running struct {
	uid, podUID types.UID
	unfenced    bool
	cancel      context.CancelCauseFunc
	done        chan struct{}

	job   planner.Job // as the planner knows it
	lap   planner.Lap // of its present stage
	began time.Time
	disk  int64 // set aside for it
	ended bool  // the planner has given it up
}

// Reconcile brings one PodCheckpoint forward by what is written of it. It never waits for a dump.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	key := request.NamespacedName
	pc := &v1alpha1.PodCheckpoint{}
	err := r.Client.Get(ctx, key, pc)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("reading checkpoint %q: %w", key, err)
	}
	gone := err != nil
	if !gone && takenForLost(pc) {
		return r.halt(ctx, pc)
	}
	if busy := r.busy(key); busy != nil {
		if gone || pc.UID != busy.uid || phaseOf(pc).Final() {
			busy.cancel(errLost)
		} else if why := match.CalledOff(pc); why != "" {
			busy.cancel(&offError{why})
		}
		return r.watch(busy), nil
	}
	if gone || phaseOf(pc) != v1alpha1.PhasePending {
		r.outOfLine(key)
	}
	entry, held := r.Ledger.Get(key)
	if !held && (gone || phaseOf(pc).Final()) {
		r.forget(key)
		if gone {
			return ctrl.Result{}, nil
		}
		return ctrl.Result{RequeueAfter: r.cleanLate(ctx, pc)}, nil
	}
	// However many wait for their turn, they cost the API server nothing.
	if w, ok := r.standing(key, pc.UID); ok && !held && w.verdict == later && match.CalledOff(pc) == "" {
		return ctrl.Result{RequeueAfter: r.pause(w)}, nil
	}
	// The cache may lag behind what this agent wrote itself a moment ago.
	if err := r.Live.Get(ctx, key, pc); apierrors.IsNotFound(err) {
		return r.orphan(ctx, entry, held)
	} else if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading checkpoint %q: %w", key, err)
	}
	if held && entry.CheckpointUID != pc.UID {
		result, err := r.orphan(ctx, entry, held)
		if err == nil && result.IsZero() {
			result.RequeueAfter = time.Millisecond
		}
		return result, err
	}
	switch phase := phaseOf(pc); {
	case phase == v1alpha1.PhasePending:
		return r.begin(ctx, pc)
	case phase == v1alpha1.PhaseReady:
		return r.fence(ctx, pc)
	case phase == v1alpha1.PhaseClaimed || phase.Final():
		return r.settle(ctx, pc)
	default:
		return r.abandon(ctx, pc)
	}
}

func (r *Reconciler) busy(key types.NamespacedName) *running {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running[key]
}

// begin starts an attempt for a Pending checkpoint when it is its turn.
func (r *Reconciler) begin(ctx context.Context, pc *v1alpha1.PodCheckpoint) (ctrl.Result, error) {
	if why := match.CalledOff(pc); why != "" {
		r.outOfLine(client.ObjectKeyFromObject(pc))
		return r.refuse(ctx, pc, &offError{why})
	}
	if d := pc.Spec.Deadline; d != nil && !r.Clock.Now().Before(d.Time) {
		return r.refuse(ctx, pc, &refusedError{cause: planner.NeverCould, text: "the deadline is over; nothing was frozen"})
	}
	if _, held := r.Ledger.Holder(pc.Spec.PodUID); held {
		r.yield(pc)
		r.outOfLine(client.ObjectKeyFromObject(pc))
		return r.queue(ctx, pc, whenHeld, "Waiting for another checkpoint of the pod to end")
	}
	pod := &corev1.Pod{}
	err := r.Live.Get(ctx, types.NamespacedName{Namespace: pc.Namespace, Name: pc.Spec.PodName}, pod)
	if apierrors.IsNotFound(err) {
		return r.refuse(ctx, pc, &podGoneError{pod: pc.Spec.PodName, how: "is gone"})
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading pod %q: %w", pc.Spec.PodName, err)
	}
	plan, err := planFor(pod, pc, r.Clock.Now())
	if err != nil {
		return r.refuse(ctx, pc, err)
	}
	key := client.ObjectKeyFromObject(pc)
	w := r.lineUp(ctx, pc, pod, plan)
	if w.verdict == never {
		r.outOfLine(key)
		return r.refuse(ctx, pc, (&attempt{pc: pc, plan: plan}).explain(w.why))
	}
	// The attempt outlives this call; its context ends with cancel, and at the agent's end with Stop.
	attempting, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	run := &running{uid: pc.UID, podUID: pod.UID, unfenced: !pc.Spec.Fence, cancel: cancel, done: make(chan struct{}), job: w.job}
	if w.verdict != turn || !r.enter(key, run) {
		cancel(nil)
		return r.queue(ctx, pc, r.pause(w), "Waiting for its turn: other pods of the node are being saved")
	}
	metrics.CountCheckpoint(pc.Spec.Reason, metrics.OutcomeStarted)
	r.started(pc, len(plan.save))
	a := &attempt{r: r, pc: pc, pod: pod, plan: plan}
	r.group.Go(func() {
		defer close(run.done)
		defer cancel(nil)
		err := a.run(attempting)
		if err != nil && !errors.Is(err, errLost) {
			a.giveUp(attempting, err)
		}
		r.leave(key, err)
	})
	return r.watch(run), nil
}

// queue says once that the agent is there and the checkpoint has to wait: without a word, the agent would be taken to be away and the
// pod would go without its checkpoint. The agent looks again after a pause.
func (r *Reconciler) queue(ctx context.Context, pc *v1alpha1.PodCheckpoint, pause time.Duration, why string) (ctrl.Result, error) {
	if pc.Status.Phase == "" && !r.isStopping() {
		next := pc.DeepCopy()
		next.Status.Phase, next.Status.Message = v1alpha1.PhasePending, why
		if err := r.Client.Status().Update(ctx, next); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return ctrl.Result{}, fmt.Errorf("writing that checkpoint %q waits: %w", client.ObjectKeyFromObject(pc), err)
		}
	}
	return ctrl.Result{RequeueAfter: pause}, nil
}

// enter takes a place, and disk, for an attempt; false when there is none left, or one of the same pod is under way.
func (r *Reconciler) enter(key types.NamespacedName, run *running) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == nil {
		r.running, r.causes = map[types.NamespacedName]*running{}, map[types.NamespacedName]error{}
	}
	if r.ending != nil || len(r.running) >= r.MaxParallel {
		return false
	}
	need := diskFor(run.job.Bytes)
	if ok, _ := r.Disk.fits(need, r.reserved()); !ok {
		return false
	}
	for _, other := range r.running {
		if other.podUID == run.podUID {
			return false
		}
	}
	run.began, run.disk, run.job.Stage = r.Clock.Now(), need, planner.Starting
	r.running[key] = run
	delete(r.causes, key)
	delete(r.turns.waiting, key)
	r.turns.dirty = true
	metrics.SetWaiting(len(r.turns.waiting))
	metrics.SetReserved(r.reserved())
	return true
}

func (r *Reconciler) leave(key types.NamespacedName, err error) {
	r.mu.Lock()
	r.turns.left(r.running[key], r.Clock.Now(), err)
	delete(r.running, key)
	if err != nil {
		r.causes[key] = err
	}
	metrics.SetReserved(r.reserved())
	wake := r.replan(true)
	r.mu.Unlock()
	r.Wake(key)
	r.wakeAll(wake, key)
}

// abandon ends the attempt of a former life, or one that could not even write that it failed.
func (r *Reconciler) abandon(ctx context.Context, pc *v1alpha1.PodCheckpoint) (ctrl.Result, error) {
	r.mu.Lock()
	cause := r.causes[client.ObjectKeyFromObject(pc)]
	r.mu.Unlock()
	if cause == nil || errors.Is(cause, errLost) {
		cause = fmt.Errorf("the agent was restarted while %s", phaseOf(pc))
	}
	return r.refuse(ctx, pc, cause)
}
