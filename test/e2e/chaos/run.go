// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/chaos/history"
	"github.com/cryopod/cryopod/test/e2e/chaos/plan"
	"github.com/cryopod/cryopod/test/e2e/install"
	"github.com/cryopod/cryopod/test/e2e/object"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

const (
	startTimeout = 4 * time.Minute
	// settled is how many steps a workload does before it is disturbed, and after that until it counts as running.
	settled = 10
	// deadline is that of the pods: short, that a run which needs it does not take long.
	deadline = "40s"
	// gracePeriod is that of the pods.
	gracePeriod = 5
	mebibyte    = 1 << 20
	healthPort  = 8090
)

// run is a plan under way.
type run struct {
	*Engine
	plan  plan.Plan
	log   *history.Log
	dir   string
	began time.Time
	maker object.Maker
	// source is the node that the pods are driven off, target one that they may go to.
	source, target string
	workloads      []history.Workload
	pods           []*corev1.Pod

	mu sync.Mutex
	// faults are the names of those made.
	faults []string
}

func newRun(e *Engine, p plan.Plan, log *history.Log, dir string) *run {
	return &run{
		Engine: e, plan: p, log: log, dir: dir, began: time.Now(),
		maker:  e.Bed.Maker(fmt.Sprintf("chaos-%d", p.Seed)),
		source: e.Nodes[p.Source], target: e.Nodes[(p.Source+1)%len(e.Nodes)],
	}
}

func workloadName(i int) string { return fmt.Sprintf("chaos-%d", i+1) }

// start makes the workloads on the source and returns once each counts.
func (r *run) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := r.Bed.RemoveNamespace(ctx, r.maker.Namespace); err != nil {
		return err
	}
	for _, n := range r.Nodes {
		if err := r.cordon(ctx, n, n != r.source); err != nil {
			return err
		}
	}
	objects := []client.Object{r.maker.NamespaceObject(map[string]string{Label: "true"})}
	for i, w := range r.plan.Workloads {
		objects = append(objects, r.object(workloadName(i), w))
	}
	if err := r.Bed.Create(ctx, objects...); err != nil {
		return err
	}
	for i, w := range r.plan.Workloads {
		if err := r.settle(ctx, workloadName(i), w); err != nil {
			return err
		}
	}
	for _, n := range r.Nodes {
		if err := r.cordon(ctx, n, false); err != nil {
			return err
		}
	}
	r.log.Add(history.Entry{Begin: &history.Begin{
		Seed: r.plan.Seed, Plan: r.plan.String(), Namespace: r.maker.Namespace, Source: r.source, Workloads: r.workloads,
		Rewinds: r.plan.Trigger == plan.Death,
	}})
	r.witness.follow(r.maker.Namespace, r.log)
	return nil
}

// object is the controller of a workload.
func (r *run) object(name string, w plan.Workload) client.Object {
	template := r.maker.Template(name)
	template.Annotations[v1alpha1.AnnotationDeadline] = deadline
	switch r.plan.Trigger {
	case plan.Delete:
		template.Annotations[v1alpha1.AnnotationOn] = "eviction,termination,preemption,delete"
	case plan.Death:
		template.Annotations[v1alpha1.AnnotationInterval] = "1h"
	}
	grace := int64(gracePeriod)
	template.Spec.TerminationGracePeriodSeconds = &grace
	for i := range w.Containers {
		c := r.maker.Stepper(name, containerName(i), fmt.Sprintf("-memory=%d", w.Mebibytes))
		if r.plan.Trigger == plan.Preempt && i == 0 {
			c.Resources.Requests = half
		}
		if w.Probed {
			r.probe(&c, i)
		}
		template.Spec.Containers = append(template.Spec.Containers, c)
	}
	switch w.Kind {
	case plan.StatefulSet:
		return r.maker.StatefulSet(name, template)
	case plan.Job:
		return indexed(r.maker.Job(name, template))
	default:
		return r.maker.Deployment(name, template)
	}
}

// probe gives a container a liveness probe that it passes while it runs, and not while it is frozen: ten seconds of that are too long.
func (r *run) probe(c *corev1.Container, i int) {
	port := healthPort + i
	c.Args = append(c.Args, fmt.Sprintf("-health=:%d", port))
	c.LivenessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt(port)}},
		PeriodSeconds: 2, FailureThreshold: 5, TimeoutSeconds: 1,
	}
}

func containerName(i int) string { return fmt.Sprintf("c%d", i+1) }

// settle returns once the workload's pod has filled and checked its memory and counts.
func (r *run) settle(ctx context.Context, name string, w plan.Workload) error {
	pod, err := r.Bed.RunningPod(ctx, r.maker.Namespace, name)
	if err != nil {
		return err
	}
	if pod.Spec.NodeName != r.source {
		return fmt.Errorf("pod %q runs on %q, want %q", pod.Name, pod.Spec.NodeName, r.source)
	}
	known := history.Workload{Name: name, Kind: string(w.Kind), PodUID: pod.UID, IP: pod.Status.PodIP}
	for i := range w.Containers {
		container := r.maker.Workload(name, containerName(i))
		known.Containers = append(known.Containers, container)
		_, err := r.Bed.Recorder.Wait(ctx, container, func(entries []recorder.Entry) bool {
			n := len(entries)
			return n > 0 && entries[n-1].Step >= settled && entries[n-1].Verified >= int64(w.Mebibytes)*mebibyte
		})
		if err != nil {
			return err
		}
	}
	r.workloads = append(r.workloads, known)
	r.pods = append(r.pods, pod)
	return nil
}

// cordon keeps new pods off a node, or lets them onto it again.
func (r *run) cordon(ctx context.Context, node string, off bool) error {
	n := &corev1.Node{}
	n.Name = node
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, off))
	if err := r.Bed.Client.Patch(ctx, n, patch); err != nil {
		return fmt.Errorf("cordoning node %q (%t): %w", node, off, err)
	}
	return nil
}

// parts are the pods of Cryopod.
func (r *run) parts(ctx context.Context) []corev1.Pod {
	var pods corev1.PodList
	if err := r.Bed.Client.List(ctx, &pods, client.InNamespace(install.Namespace)); err != nil {
		return nil
	}
	return pods.Items
}

// selector selects the pods of all workloads.
func (r *run) selector() string {
	var names []string
	for _, w := range r.workloads {
		names = append(names, w.Name)
	}
	return object.LabelApp + " in (" + strings.Join(names, ",") + ")"
}

// step takes a part of the run down, when it begins and when it is over.
func (r *run) step(name history.StepName, do func() error) {
	r.log.Add(history.Entry{Step: &history.Step{Name: name}})
	over := &history.Step{Name: name, Over: true}
	if err := do(); err != nil {
		over.Error = err.Error()
	}
	r.log.Add(history.Entry{Step: over})
}

// attack makes the pods go and the faults happen, and returns once all workloads run again and all faults are over, or nothing more can be
// expected.
func (r *run) attack(ctx context.Context) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go r.watchAPI(watching)
	striking, callOff := context.WithCancel(ctx)
	defer callOff()
	var strikes sync.WaitGroup
	var failed []error
	for i, s := range r.plan.Strikes {
		strikes.Go(func() {
			if err := r.strike(ctx, striking, i+1, s); err != nil {
				r.mu.Lock()
				failed = append(failed, err)
				r.mu.Unlock()
			}
		})
	}
	triggered := time.Now()
	r.step(history.StepTrigger, func() error { return r.trigger(ctx) })
	// What strikes at a late moment has its chance until the pods run again.
	_ = r.waitRunning(ctx, triggered, firstRunning)
	callOff()
	r.step(history.StepFaults, func() error {
		strikes.Wait()
		return joined(failed)
	})
	if err := r.waitRunning(ctx, time.Now(), runningTimeout); err != nil {
		r.log.Add(history.Entry{Event: &history.Event{Kind: "Run", Name: r.maker.Namespace, Reason: "NotRunning", Message: err.Error()}})
	}
}

// made are the names of the faults that were made.
func (r *run) made() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.faults...)
}

// watchAPI takes down when the API server answers and when not.
func (r *run) watchAPI(ctx context.Context) {
	const every, patience = 250 * time.Millisecond, 2 * time.Second
	up := true
	for ctx.Err() == nil {
		asked := time.Now()
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			return r.Bed.Client.Get(ctx, client.ObjectKey{Name: corev1.NamespaceDefault}, &corev1.Namespace{})
		}()
		if ctx.Err() != nil {
			return
		}
		if (err == nil) != up {
			up = err == nil
			at := time.Now()
			if !up {
				at = asked
			}
			r.log.Add(history.Entry{Time: at, API: &history.API{Up: up}})
		}
		_ = sleep(ctx, every)
	}
}

// waitRunning returns once every workload was heard since then from a pod that runs, and takes that down.
func (r *run) waitRunning(ctx context.Context, since time.Time, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var waiting sync.WaitGroup
	errs := make([]error, len(r.workloads))
	for i, w := range r.workloads {
		waiting.Go(func() {
			errs[i] = bed.Until(ctx, func(ctx context.Context) error { return r.runs(ctx, w, since) })
		})
	}
	waiting.Wait()
	return joined(errs)
}

// runs tells whether a workload runs: the one pod that it has is heard.
func (r *run) runs(ctx context.Context, w history.Workload, since time.Time) error {
	pod, err := r.Bed.RunningPod(ctx, r.maker.Namespace, w.Name)
	if err != nil {
		return err
	}
	for _, c := range w.Containers {
		entries, err := r.Bed.Recorder.Entries(ctx, c, 0)
		if err != nil {
			return err
		}
		heard := 0
		for _, e := range entries {
			if e.Peer == pod.Status.PodIP && e.Fault == "" && e.Time.After(since) {
				heard++
			}
		}
		if heard < settled {
			return fmt.Errorf("container %q of pod %q was heard %d times since %s", c, pod.Name, heard, since.Format(time.TimeOnly))
		}
	}
	r.log.Add(history.Entry{Running: &history.Running{
		Workload: w.Name, UID: pod.UID, IP: pod.Status.PodIP, Node: pod.Spec.NodeName,
	}})
	return nil
}

func writeEntries(path string, entries []recorder.Entry) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("writing what the recorder heard: %w", err)
	}
	defer f.Close()
	e := json.NewEncoder(f)
	for _, entry := range entries {
		if err := e.Encode(entry); err != nil {
			return fmt.Errorf("writing what the recorder heard: %w", err)
		}
	}
	return nil
}
