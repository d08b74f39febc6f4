// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/chaos/check"
	"github.com/cryopod/cryopod/test/e2e/chaos/fault"
	"github.com/cryopod/cryopod/test/e2e/chaos/history"
	"github.com/cryopod/cryopod/test/e2e/chaos/residue"
)

const (
	// firstRunning is how long late faults have to come, runningTimeout when a workload that does not run counts as lost.
	firstRunning   = 30 * time.Second
	runningTimeout = check.RunningBound + 30*time.Second
	// calmTimeout bounds the time until nothing changes any more: a claim by a pod that never came to be is given back after 75 s, and all of
	// Cryopod starts anew where it was taken away. On a machine with a load of 190 that took more than 150 s.
	calmTimeout = 5 * time.Minute
	// endTimeout bounds the removal of a run, residueTimeout the time until nothing is left of it.
	endTimeout     = 3 * time.Minute
	residueTimeout = 2 * time.Minute
)

// rest takes back what made the pods go, and returns once nothing changes any more.
func (r *run) rest(ctx context.Context) {
	r.step(history.StepCalm, func() error {
		ctx, cancel := context.WithTimeout(ctx, calmTimeout)
		defer cancel()
		if err := r.insist(ctx, r.takeBack); err != nil {
			return err
		}
		if err := fault.Calm(ctx, r.Bed); err != nil {
			return err
		}
		return bed.Until(ctx, r.atRest)
	})
}

// takeBack undoes what the trigger did to nodes.
func (r *run) takeBack(ctx context.Context) error {
	node, err := r.Bed.Cluster.Node(r.source)
	if err != nil {
		return err
	}
	errs := []error{node.Start(ctx)}
	if t, ok := taints[r.plan.Trigger]; ok {
		errs = append(errs, r.Bed.Untaint(ctx, r.source, t.Key))
	}
	for _, n := range r.Nodes {
		errs = append(errs, r.cordon(ctx, n, false))
	}
	return errors.Join(errs...)
}

// atRest says what still changes: attempts and claims that have not ended, pods that have not gone.
func (r *run) atRest(ctx context.Context) error {
	var checkpoints v1alpha1.PodCheckpointList
	if err := r.Bed.Client.List(ctx, &checkpoints, client.InNamespace(r.maker.Namespace)); err != nil {
		return err
	}
	for _, c := range checkpoints.Items {
		if !c.Status.Phase.Final() && c.Status.Phase != v1alpha1.PhaseReady {
			return fmt.Errorf("PodCheckpoint %q is %q", c.Name, c.Status.Phase)
		}
	}
	var pods corev1.PodList
	if err := r.Bed.Client.List(ctx, &pods, client.InNamespace(r.maker.Namespace)); err != nil {
		return err
	}
	for _, p := range pods.Items {
		if p.DeletionTimestamp != nil {
			return fmt.Errorf("pod %q is still there", p.Name)
		}
	}
	return nil
}

// end removes what the run made and takes down what is left of it.
func (r *run) end(ctx context.Context) {
	r.step(history.StepEnd, func() error {
		ctx, cancel := context.WithTimeout(ctx, endTimeout)
		defer cancel()
		return r.clear(ctx)
	})
	r.log.Add(history.Entry{Residue: r.residue(ctx)})
}

// residue is what is left over since the last run.
func (r *run) residue(ctx context.Context) *history.Residue {
	left, err := residue.Find(ctx, r.Bed, residueTimeout, r.known...)
	// What is left once is not held against later runs.
	r.known = append(r.known, left...)
	found := &history.Residue{}
	for _, l := range left {
		found.Found = append(found.Found, l.String())
	}
	if err != nil {
		found.Error = err.Error()
	}
	if err != nil || len(left) > 0 {
		r.diagnose(ctx)
	}
	return found
}

// clear removes the run's objects.
func (r *run) clear(ctx context.Context) error {
	priority := &schedulingv1.PriorityClass{}
	priority.Name = r.maker.Namespace
	err := errors.Join(
		r.takeBack(ctx),
		client.IgnoreNotFound(r.Bed.Client.Delete(ctx, priority)),
		r.Bed.RemoveNamespace(ctx, r.maker.Namespace),
	)
	if err != nil {
		return fmt.Errorf("removing run %q: %w", r.maker.Namespace, err)
	}
	return nil
}
