// SPDX-License-Identifier: Apache-2.0

// Package trial drains the node of one counting pod and tells what the witness outside the pod saw of it.
package trial

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
	"github.com/cryopod/cryopod/test/e2e/object"
	"github.com/cryopod/cryopod/test/e2e/recorder"
	"github.com/cryopod/cryopod/test/e2e/timeline"
)

const (
	// Label marks the namespaces of trials.
	Label = "cryopod-trial"

	container    = "main"
	startTimeout = 2 * time.Minute
	drainTimeout = 150 * time.Second
	moveTimeout  = 2 * time.Minute
	mebibyte     = 1 << 20
)

// Trial is what to try.
type Trial struct {
	Bed *bed.Bed
	// Name is the Deployment's, and begins the namespace's.
	Name string
	// Mebibytes is how much memory the workload fills and checks.
	Mebibytes int
	// Plain leaves the annotation out: a drain as it is without Cryopod.
	Plain bool
	// Steps is how many steps the workload does before the drain.
	Steps int64
	// StepsAfter is how many steps the replacement does before it counts as working; 0 means 1.
	StepsAfter int64
	// Arguments are further ones of the workload.
	Arguments []string
	// Everything has the drain evict all pods of the node, not only the workload's.
	Everything bool
	// Settled is told of the pod and of the drain that comes; nil for nobody.
	Settled func(*corev1.Pod, kubectl.Drain)
	// Output gets kubectl's lines as they come and, when the trial fails, what helps to see why; nil for none.
	Output io.Writer
}

// Result is what was seen.
type Result struct {
	Namespace    string
	Workload     string
	Before       *corev1.Pod
	After        *corev1.Pod
	Observations timeline.Observations
	// Entries are the recorder's, Verdict what they say.
	Entries []recorder.Entry
	Verdict recorder.Verdict
	// Checkpoint is nil for a plain drain.
	Checkpoint *v1alpha1.PodCheckpoint
	// SameStep is when the replacement had done the last step of the drained pod: for a restored pod with its first step.
	SameStep time.Time
}

// ImageBytes is what was sent to the registry.
func (r *Result) ImageBytes() int64 {
	var sum int64
	if r.Checkpoint != nil {
		for _, c := range r.Checkpoint.Status.Containers {
			sum += c.PushedBytes
		}
	}
	return sum
}

// Run makes the workload in a namespace of its own, which it leaves, drains its node, and uncordons that in the end.
func (t Trial) Run(ctx context.Context) (r *Result, err error) {
	maker := t.Bed.Maker(t.Name + "-" + strings.ToLower(rand.Text()[:6]))
	defer func() {
		if err != nil && t.Output != nil {
			t.Bed.Diagnose(ctx, t.Output, maker.Namespace)
		}
	}()
	r = &Result{Namespace: maker.Namespace, Workload: maker.Workload(t.Name, container)}
	arguments := append([]string{fmt.Sprintf("-memory=%d", t.Mebibytes)}, t.Arguments...)
	template := maker.Template(t.Name, maker.Stepper(t.Name, container, arguments...))
	if t.Plain {
		template.Annotations = nil
	}
	err = t.Bed.Create(ctx, maker.NamespaceObject(map[string]string{Label: "true"}), maker.Deployment(t.Name, template))
	if err != nil {
		return nil, err
	}
	if err := t.settle(ctx, r); err != nil {
		return nil, err
	}
	observing, stop := context.WithCancel(ctx)
	defer stop()
	observer, err := timeline.Observe(observing, t.Bed.Client, r.Namespace)
	if err != nil {
		return nil, err
	}
	if err := t.drain(ctx, r); err != nil {
		return nil, err
	}
	if err := t.witness(ctx, r); err != nil {
		return nil, err
	}
	if !t.Plain {
		if r.Checkpoint, err = t.restored(ctx, r); err != nil {
			return nil, err
		}
		r.Observations.Timings = r.Checkpoint.Status.Timings
	}
	r.Observations.Replacement = observer.Pod(r.After.UID)
	return r, nil
}

func (t Trial) settle(ctx context.Context, r *Result) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if r.Before, err = t.Bed.RunningPod(ctx, r.Namespace, t.Name); err != nil {
		return err
	}
	_, err = t.Bed.Recorder.Wait(ctx, r.Workload, func(entries []recorder.Entry) bool {
		// All of the memory has been checked, so all of it has been touched.
		n := len(entries)
		return n > 0 && entries[n-1].Step >= t.Steps && entries[n-1].Verified >= int64(t.Mebibytes)*mebibyte
	})
	return err
}

func (t Trial) drain(ctx context.Context, r *Result) (err error) {
	node := r.Before.Spec.NodeName
	defer func() {
		if uncordon := t.Bed.Kubectl.Uncordon(context.WithoutCancel(ctx), node); err == nil {
			err = uncordon
		}
	}()
	drain := kubectl.Drain{Node: node, Timeout: drainTimeout, Output: t.Output}
	if !t.Everything {
		drain.Selector = object.LabelApp + "=" + t.Name
	}
	if t.Settled != nil {
		t.Settled(r.Before, drain)
	}
	drained, err := t.Bed.Kubectl.Drain(ctx, drain)
	if err != nil {
		return err
	}
	r.Observations.Requested = drained.Requested
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	r.After, err = t.Bed.RunningPod(ctx, r.Namespace, t.Name, r.Before.UID)
	return err
}

// witness waits until the replacement has done the drained pod's last step, and as many more as are wanted.
func (t Trial) witness(ctx context.Context, r *Result) error {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	more := max(t.StepsAfter, 1)
	entries, err := t.Bed.Recorder.Wait(ctx, r.Workload, func(entries []recorder.Entry) bool {
		n := len(entries)
		return n > 0 && entries[n-1].Peer == r.After.Status.PodIP && entries[n-1].Step >= lastOf(entries, r.Before.Status.PodIP)+more
	})
	if err != nil {
		return err
	}
	r.Entries = entries
	r.Verdict = recorder.Check(entries)
	if len(r.Verdict.Moves) != 1 {
		return fmt.Errorf("watching workload %q move: it moved %d times", r.Workload, len(r.Verdict.Moves))
	}
	r.Observations.Move = r.Verdict.Moves[0]
	last := lastOf(entries, r.Before.Status.PodIP)
	for _, e := range entries {
		if e.Peer == r.After.Status.PodIP && e.Step >= last {
			r.SameStep = e.Time
			break
		}
	}
	return nil
}

// lastOf is the highest step that came from a pod's address.
func lastOf(entries []recorder.Entry, ip string) int64 {
	var last int64
	for _, e := range entries {
		if e.Peer == ip {
			last = max(last, e.Step)
		}
	}
	return last
}

// restored is the PodCheckpoint once it says Restored: the controllers write that just after the first step.
func (t Trial) restored(ctx context.Context, r *Result) (*v1alpha1.PodCheckpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var found *v1alpha1.PodCheckpoint
	err := bed.Until(ctx, func(ctx context.Context) error {
		all, err := t.Bed.Checkpoints(ctx, r.Namespace, r.Before.UID)
		if err != nil {
			return err
		}
		if len(all) != 1 {
			return fmt.Errorf("finding the PodCheckpoint of pod %q: there are %d", r.Before.Name, len(all))
		}
		found = &all[0]
		if found.Status.Phase != v1alpha1.PhaseRestored {
			return fmt.Errorf("PodCheckpoint %q is %s: %s", found.Name, found.Status.Phase, found.Status.Message)
		}
		return nil
	})
	return found, err
}

// Remove removes what the trial left, and the checkpoint's images from the nodes, so that the next one finds the machine as it was.
func (t Trial) Remove(ctx context.Context, r *Result) error {
	if err := t.Bed.RemoveNamespace(ctx, r.Namespace); err != nil {
		return err
	}
	if r.Checkpoint == nil {
		return nil
	}
	return RemoveImages(ctx, t.Bed, r.Checkpoint)
}

// RemoveImages removes a checkpoint's images from the nodes.
func RemoveImages(ctx context.Context, b *bed.Bed, checkpoint *v1alpha1.PodCheckpoint) error {
	for _, n := range b.Cluster.Nodes() {
		for _, c := range checkpoint.Status.Containers {
			if c.Image == "" {
				continue
			}
			if out, err := n.Exec(ctx, "ctr", "-n", "k8s.io", "images", "rm", c.ImageTag, c.Image); err != nil {
				return fmt.Errorf("removing image %q of node %q: %w: %s", c.ImageTag, n.Name(), err, out)
			}
		}
	}
	return nil
}

// Up is a local cluster with Cryopod on it, which is started when it does not run, and is rid of what earlier trials left. end stops it, unless it is to
// be kept.
func Up(ctx context.Context, name string, keep bool, progress io.Writer) (b *bed.Bed, end func() error, err error) {
	b, err = bed.Up(ctx, bed.Options{Cluster: name, Progress: progress})
	if err != nil {
		return nil, nil, err
	}
	end = func() error {
		b.Close()
		if keep {
			return nil
		}
		return cluster.Down(context.WithoutCancel(ctx), name)
	}
	if err := Sweep(ctx, b); err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return b, end, nil
}

// Sweep removes the namespaces that earlier trials left.
func Sweep(ctx context.Context, b *bed.Bed) error {
	var left corev1.NamespaceList
	if err := b.Client.List(ctx, &left, client.MatchingLabels{Label: "true"}); err != nil {
		return fmt.Errorf("listing the namespaces of earlier trials: %w", err)
	}
	for i := range left.Items {
		if err := b.RemoveNamespace(ctx, left.Items[i].Name); err != nil {
			return err
		}
	}
	return nil
}
