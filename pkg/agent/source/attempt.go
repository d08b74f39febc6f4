// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
	planner "github.com/cryopod/cryopod/pkg/plan"
)

// dumpsAtOnce bounds how many containers of a pod are dumped, and then exported, at the same time.
const dumpsAtOnce = 2

// failedWrite bounds how long the agent tries to write that an attempt failed before it thaws a pod whose checkpoint nobody
// can have claimed.
const failedWrite = 10 * time.Second

// againAlive is the pause before the API server is asked again about the pod.
const againAlive = 200 * time.Millisecond

// attempt saves one pod, from Pending to Ready. It runs on its own, so that no dump keeps the fences of other pods waiting. Each step
// begins with the write of its phase; only the agent writes these phases, and only a Ready one can be claimed.
type attempt struct {
	r    *Reconciler
	pc   *v1alpha1.PodCheckpoint
	pod  *corev1.Pod
	plan *plan

	archives  map[string]string // container → path
	exported  map[string]v1alpha1.ContainerCheckpoint
	readySent bool
	frozen    time.Time     // when the freeze began
	stillFor  time.Duration // until the thaw of an attempt without a fence
	thawed    func()        // stops the clock of the freeze
}

// run saves the pod and returns why it could not. What follows, thawing included, is up to the reconciler: it acts on what is
// written, so it comes to the same after a crash.
func (a *attempt) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	steps := []struct {
		phase  v1alpha1.Phase
		mutate func(*v1alpha1.PodCheckpointStatus)
		step   metrics.AgentStep
		do     func(context.Context) error
	}{
		{v1alpha1.PhaseFreezing, a.describe, metrics.StepFreeze, a.freeze},
		{v1alpha1.PhaseDumping, nil, metrics.StepDump, a.dump},
		{v1alpha1.PhaseExporting, nil, metrics.StepExport, a.export},
	}
	defer a.limit(cancel)()
	for _, s := range steps {
		if err := a.r.insist(ctx, a.pc, s.phase, "", s.mutate); err != nil {
			return err
		}
		a.r.entered(client.ObjectKeyFromObject(a.pc), s.phase, a.archived())
		if err := s.do(ctx); err != nil {
			metrics.CountAgentError(s.step)
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return err
		}
	}
	if err := a.verify(ctx); err != nil {
		return err
	}
	a.readySent = true
	if err := a.r.insist(ctx, a.pc, v1alpha1.PhaseReady, a.readyMessage(), a.results); err != nil {
		return err
	}
	if a.pc.Spec.Fence {
		metrics.ObserveFrozen(a.r.Clock.Since(enteredAt(a.pc, v1alpha1.PhaseFreezing)))
	}
	metrics.CountCheckpoint(a.pc.Spec.Reason, metrics.OutcomeReady)
	a.r.ready(a.pc)
	return nil
}

// limit cancels the attempt when the pod has stood still for too long or the deadline is over. For how long it may stand still counts
// from here on: what may stand between this and the freeze is one write.
func (a *attempt) limit(cancel context.CancelCauseFunc) (stop func()) {
	still := a.patience()
	freeze := a.r.Clock.AfterFunc(still.span, func() { cancel(still) })
	a.thawed = func() { freeze.Stop() }
	d := a.pc.Spec.Deadline
	if d == nil {
		return a.thawed
	}
	deadline := a.r.Clock.AfterFunc(d.Sub(a.r.Clock.Now()), func() { cancel(errors.New("the deadline is over")) })
	return func() {
		freeze.Stop()
		deadline.Stop()
	}
}

// patience is for how long the pod may stand still before its checkpoint is Ready, and what to say past that.
func (a *attempt) patience() *stillError {
	still := &stillError{span: time.Duration(a.pc.Spec.MaxFreezeSeconds) * time.Second}
	if still.span <= 0 {
		still.span = v1alpha1.DefaultMaxFreeze
	}
	still.why = fmt.Sprintf("the annotation %s allows no more", v1alpha1.AnnotationMaxFreeze)
	if b := a.plan.probes; b != nil && b.Still() < still.span {
		still.span = b.Still()
		still.patience = (b.Span - still.span) / 2
		still.why = fmt.Sprintf("%s would have restarted it at %s: raise its failureThreshold or periodSeconds", b.Probe, b.Span)
	}
	return still
}

// describe writes down whose checkpoint this is and what it needs.
func (a *attempt) describe(s *v1alpha1.PodCheckpointStatus) {
	s.Owner, s.Creator = match.OwnerOf(a.pod), a.pod.Annotations[v1alpha1.AnnotationCreator]
	s.TemplateHash = a.pod.Annotations[v1alpha1.AnnotationTemplateHash]
	if s.TemplateHash == "" {
		s.TemplateHash = match.TemplateHash(a.pod)
	}
	s.Containers = a.plan.status
	s.Requirements = a.r.Requirements()
}

// explain adds to why an attempt was given up what its pod may stand still for, where that is why.
func (a *attempt) explain(why error) error {
	var refused *refusedError
	if errors.As(why, &refused) && refused.cause == planner.TooLong {
		return fmt.Errorf("%w; %s", why, a.patience().why)
	}
	return why
}

func (a *attempt) freeze(ctx context.Context) error {
	a.frozen = a.r.Clock.Now()
	entry := fence.Entry{
		Checkpoint: client.ObjectKeyFromObject(a.pc), CheckpointUID: a.pc.UID,
		Pod: a.pod.Name, PodUID: a.pod.UID, Since: a.frozen,
	}
	if b := a.plan.probes; b != nil {
		entry.Until, entry.Probe = a.frozen.Add(b.Still()), b.Probe
	}
	for _, c := range a.plan.freeze {
		state, err := a.r.Fence.State(ctx, c.ID)
		if err != nil {
			return fmt.Errorf("reading the state of container %q: %w", c.Name, err)
		}
		if state != fence.Frozen {
			entry.Containers = append(entry.Containers, c)
		}
	}
	if err := a.r.Ledger.Put(entry); err != nil {
		return err
	}
	return fence.FreezeAll(ctx, a.r.Fence, a.plan.freeze)
}

func (a *attempt) dump(ctx context.Context) error {
	var mu sync.Mutex
	a.archives = map[string]string{}
	err := a.each(ctx, func(ctx context.Context, c fence.Container) error {
		path, err := a.r.Dumper.Dump(ctx, a.pc.Namespace, a.pod.Name, c)
		if err != nil {
			return fmt.Errorf("container %q: %w", c.Name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		a.archives[c.Name] = path
		return nil
	})
	if err != nil || a.pc.Spec.Fence {
		return err
	}
	return a.goOn(ctx)
}

// goOn thaws the pod of an attempt without a fence as soon as it is dumped: it runs on while it is pushed, and nobody can claim what is
// made of it while it lives. The ledger keeps the entry, with what is left to remove should the agent end meanwhile.
func (a *attempt) goOn(ctx context.Context) error {
	if err := a.stayedFrozen(ctx); err != nil {
		return err
	}
	entry, _ := a.r.Ledger.Get(client.ObjectKeyFromObject(a.pc))
	if err := a.r.thaw(ctx, entry, metrics.ThawSaved); err != nil {
		return err
	}
	a.thawed()
	a.stillFor = a.r.Clock.Since(a.frozen)
	metrics.ObserveFrozen(a.stillFor)
	entry.Thawed = true
	return a.r.Ledger.Put(entry)
}

// stayedFrozen makes sure that what was dumped is what was frozen: the kubelet may have restarted a container meanwhile.
func (a *attempt) stayedFrozen(ctx context.Context) error {
	frozen, err := fence.AllFrozen(ctx, a.r.Fence, a.plan.freeze)
	if err == nil && !frozen {
		err = errors.New("a container of the pod did not stay frozen; it may have been restarted by its liveness probe")
	}
	return err
}

func (a *attempt) export(ctx context.Context) error {
	var mu sync.Mutex
	a.exported = map[string]v1alpha1.ContainerCheckpoint{}
	return a.each(ctx, func(ctx context.Context, c fence.Container) error {
		exported, err := a.r.Exporter.Export(ctx, Part{
			Checkpoint: client.ObjectKeyFromObject(a.pc), Pod: a.pod, Container: c,
			BaseImage: baseImages(a.pod)[c.Name], Archive: a.archives[c.Name],
		})
		if err != nil {
			return fmt.Errorf("container %q: %w", c.Name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		a.exported[c.Name] = exported
		return nil
	})
}

// verify makes sure, before anyone can claim the checkpoint, that it is the pod's last word: the kubelet may have killed and restarted
// a container (a frozen one answers no liveness probe), and what was dumped or ran since would not be what was frozen. Without a fence it
// isn't, and need not be. A pod that was deleted meanwhile may have been replaced already; thawed, it can make use of its grace period.
func (a *attempt) verify(ctx context.Context) error {
	if a.pc.Spec.Fence {
		if err := a.stayedFrozen(ctx); err != nil {
			return err
		}
	}
	var err error
	var alive *corev1.Pod
	for {
		if alive, err = a.r.alive(ctx, a.pc.Namespace, a.pod.Name, a.pod.UID); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-a.r.Clock.After(againAlive):
		}
	}
	if alive == nil {
		return &podGoneError{pod: a.pod.Name, how: "was deleted while it was being saved"}
	}
	return nil
}

// results writes down where the images are and how large, and until when the pod stands still.
func (a *attempt) results(s *v1alpha1.PodCheckpointStatus) {
	for i := range s.Containers {
		c := &s.Containers[i]
		e := a.exported[c.Name]
		c.Image, c.ImageTag, c.Bytes, c.PushedBytes = e.Image, e.ImageTag, e.Bytes, e.PushedBytes
	}
	if b := a.plan.probes; b != nil && a.pc.Spec.Fence {
		s.FrozenUntil = new(metav1.NewMicroTime(a.frozen.Add(b.Still())))
	}
}

func (a *attempt) each(ctx context.Context, do func(context.Context, fence.Container) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(dumpsAtOnce)
	for _, c := range a.plan.save {
		group.Go(func() error { return do(ctx, c) })
	}
	return group.Wait()
}

// giveUp writes that the attempt failed and settles it. When that can't be written, and Ready was never sent, nobody can have claimed
// the checkpoint or ever will: then the pod is thawed all the same, for it must not stand still because the API server is away.
func (a *attempt) giveUp(ctx context.Context, why error) {
	ctx = context.WithoutCancel(ctx)
	logger := log.FromContext(ctx)
	err := a.r.failed(ctx, a.pc, a.explain(why))
	switch {
	case err == nil:
		if _, err := a.r.settle(ctx, a.pc); err != nil {
			logger.Error(err, "Settling a failed checkpoint; trying again")
		}
		return
	case errors.Is(err, errLost) || a.readySent:
		return
	}
	logger.Error(err, "Writing that the checkpoint failed; thawing without it, since nobody can have claimed it")
	if entry, ok := a.r.Ledger.Get(client.ObjectKeyFromObject(a.pc)); ok && !entry.Thawed {
		if err := a.r.thaw(ctx, entry, metrics.ThawFailed); err != nil {
			logger.Error(err, "Thawing; trying again")
		}
	}
}
