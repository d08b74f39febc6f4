// SPDX-License-Identifier: Apache-2.0

// Package evacuation announces the end of a node full of counting pods and tells which of them were durable in the registry when.
package evacuation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/object"
	"github.com/cryopod/cryopod/test/e2e/recorder"
	"github.com/cryopod/cryopod/test/e2e/trial"
)

const (
	// Taint announces the node's end, by GKE's key: Cryopod takes it for a notice of 30 s.
	Taint = "cloud.google.com/impending-node-termination"
	// Notice is how long before the node's end the taint comes.
	Notice = 30 * time.Second

	container    = "main"
	startTimeout = 3 * time.Minute
	// endTimeout bounds the time from the deadline until every pod runs elsewhere, restored or not.
	endTimeout = 90 * time.Second
	cleanUp    = 3 * time.Minute
	mebibyte   = 1 << 20
)

// Evacuation is what to try.
type Evacuation struct {
	Bed *bed.Bed
	// From is the node that ends. All others are kept free of the pods until then.
	From string
	// Mebibytes is the memory of each pod, in the order of their making.
	Mebibytes []int
	// Leave has the pods go. It is given them in the order of their making, and returns when it has done what there is to do, at the latest
	// with its context, which ends with the node: what is still there by then is lost.
	Leave func(context.Context, Departure) error
}

// Departure is what has to be done.
type Departure struct {
	Bed  *bed.Bed
	Node string
	Pods []*corev1.Pod
}

// Pod is what was seen of one pod.
type Pod struct {
	Mebibytes int
	Value     int64
	// Durable is how long after the notice the whole pod was in the registry; nil when that never was.
	Durable *time.Duration
	// Verdict is the recorder's, Downtime how long it heard nothing.
	Verdict  recorder.Verdict
	Downtime time.Duration
	// Phase and Message are the PodCheckpoint's in the end.
	Phase   v1alpha1.Phase
	Message string
}

// run is an Evacuation under way.
type run struct {
	Evacuation
	object.Maker
	before []*corev1.Pod
	begun  time.Time
}

func name(i int) string { return fmt.Sprintf("pod-%d", i+1) }

// Run makes the pods in a namespace of its own, has them leave, waits until all of them run elsewhere, and removes what was made.
func (e Evacuation) Run(ctx context.Context) (pods []Pod, err error) {
	r := &run{Evacuation: e, Maker: e.Bed.Maker("evacuation-" + strings.ToLower(rand.Text()[:6]))}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		if err != nil {
			var report strings.Builder
			e.Bed.Diagnose(ctx, &report, r.Namespace)
			err = fmt.Errorf("%w\n%s", err, report.String())
		}
		err = errors.Join(err, r.restore(ctx))
	}()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	r.begun = time.Now()
	deadline := r.begun.Add(Notice)
	leaving, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err = e.Leave(leaving, Departure{Bed: e.Bed, Node: e.From, Pods: r.before})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	if err := r.end(ctx, leaving); err != nil {
		return nil, err
	}
	ctx, cancel = context.WithDeadline(ctx, deadline.Add(endTimeout))
	defer cancel()
	pods = make([]Pod, len(r.before))
	var group errgroup.Group
	for i := range pods {
		group.Go(func() (err error) {
			pods[i], err = r.watch(ctx, i)
			return err
		})
	}
	return pods, group.Wait()
}

// start makes the pods, one after the other, and returns once each has filled and checked its memory.
func (r *run) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := r.cordonOthers(ctx, r.Bed.Kubectl.Cordon); err != nil {
		return err
	}
	if err := r.Bed.Create(ctx, r.NamespaceObject(map[string]string{trial.Label: "true"})); err != nil {
		return err
	}
	for i, mebibytes := range r.Mebibytes {
		template := r.Template(name(i), r.Stepper(name(i), container, fmt.Sprintf("-memory=%d", mebibytes)))
		if err := r.Bed.Create(ctx, r.Deployment(name(i), template)); err != nil {
			return err
		}
		pod, err := r.Bed.RunningPod(ctx, r.Namespace, name(i))
		if err != nil {
			return err
		}
		r.before = append(r.before, pod)
	}
	for i, mebibytes := range r.Mebibytes {
		_, err := r.Bed.Recorder.Wait(ctx, r.Workload(name(i), container), func(all []recorder.Entry) bool {
			return len(all) > 0 && all[len(all)-1].Verified >= int64(mebibytes)*mebibyte
		})
		if err != nil {
			return err
		}
	}
	return r.cordonOthers(ctx, r.Bed.Kubectl.Uncordon)
}

func (r *run) cordonOthers(ctx context.Context, change func(context.Context, string) error) error {
	for _, n := range r.Bed.Cluster.Nodes() {
		if n.Name() != r.From {
			if err := change(ctx, n.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// end waits until the pods have left, and takes what is still there when leaving ends with the node, without a word to anybody.
func (r *run) end(ctx, leaving context.Context) error {
	for _, pod := range r.before {
		left := bed.Until(leaving, func(ctx context.Context) error {
			now := &corev1.Pod{}
			err := r.Bed.Client.Get(ctx, client.ObjectKeyFromObject(pod), now)
			if err == nil && now.DeletionTimestamp == nil {
				return fmt.Errorf("pod %q has not left", pod.Name)
			}
			return client.IgnoreNotFound(err)
		})
		if left == nil {
			continue
		}
		err := r.Bed.Client.Delete(ctx, pod, client.GracePeriodSeconds(0))
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("ending pod %q with its node: %w", pod.Name, err)
		}
	}
	return ctx.Err()
}

// watch follows one pod until its replacement works.
func (r *run) watch(ctx context.Context, i int) (Pod, error) {
	p := Pod{Mebibytes: r.Mebibytes[i]}
	after, err := r.Bed.RunningPod(ctx, r.Namespace, name(i), r.before[i].UID)
	if err != nil {
		return p, err
	}
	entries, err := r.Bed.Recorder.Wait(ctx, r.Workload(name(i), container), func(all []recorder.Entry) bool {
		return len(all) > 0 && all[len(all)-1].Peer == after.Status.PodIP
	})
	if err != nil {
		return p, err
	}
	p.Verdict = recorder.Check(entries)
	for _, m := range p.Verdict.Moves {
		p.Downtime += m.Downtime()
	}
	return p, bed.Until(ctx, func(ctx context.Context) error { return r.judge(ctx, r.before[i], &p) })
}

// judge takes in the PodCheckpoints of a pod that is gone, once they are over.
func (r *run) judge(ctx context.Context, pod *corev1.Pod, p *Pod) error {
	all, err := r.Bed.Checkpoints(ctx, r.Namespace, pod.UID)
	if err != nil {
		return err
	}
	for _, c := range all {
		p.Phase, p.Message, p.Value = c.Status.Phase, c.Status.Message, c.Spec.Value
		if !c.Status.Phase.Final() {
			return fmt.Errorf("PodCheckpoint %q is %s: %s", c.Name, c.Status.Phase, c.Status.Message)
		}
		for _, t := range c.Status.Timings {
			if t.Phase == v1alpha1.PhaseReady {
				durable := t.Time.Sub(r.begun)
				p.Durable = &durable
			}
		}
	}
	return nil
}

// restore takes everything back.
func (r *run) restore(ctx context.Context) error {
	errs := []error{r.Bed.Untaint(ctx, r.From, Taint)}
	for _, n := range r.Bed.Cluster.Nodes() {
		errs = append(errs, r.Bed.Kubectl.Uncordon(ctx, n.Name()))
	}
	var all v1alpha1.PodCheckpointList
	errs = append(errs, r.Bed.Client.List(ctx, &all, client.InNamespace(r.Namespace)), r.Bed.RemoveNamespace(ctx, r.Namespace))
	for _, c := range all.Items {
		errs = append(errs, trial.RemoveImages(ctx, r.Bed, &c))
	}
	return errors.Join(errs...)
}
