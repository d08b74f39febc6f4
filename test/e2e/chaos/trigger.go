// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/chaos/history"
	"github.com/cryopod/cryopod/test/e2e/chaos/plan"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
)

const (
	// triggerTimeout bounds the time until all pods have begun to go: above their deadline and any fault.
	triggerTimeout = 150 * time.Second
	// attemptTimeout bounds one drain or request.
	attemptTimeout = 100 * time.Second
	// retryPause is what who is refused waits for.
	retryPause = time.Second
	// savedTimeout bounds the time to a checkpoint of a schedule.
	savedTimeout = 30 * time.Second
)

// taints are those that make pods go, by trigger.
var taints = map[plan.Trigger]corev1.Taint{
	plan.Spot:        {Key: "aws-node-termination-handler/spot-itn", Effect: corev1.TaintEffectNoSchedule},
	plan.Impending:   {Key: "cloud.google.com/impending-node-termination", Effect: corev1.TaintEffectNoSchedule},
	plan.Maintenance: {Key: "example.com/maintenance", Effect: corev1.TaintEffectNoExecute},
	plan.Death:       {Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute},
}

// half is more than half of what a node has: two pods that request it don't fit on one.
var half = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1100m"), corev1.ResourceMemory: resource.MustParse("16Mi")}

// indexed makes a Job one with indexes that outlives the failures of many pods.
func indexed(j *batchv1.Job) *batchv1.Job {
	j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
	j.Spec.Completions, j.Spec.Parallelism = ptr.To[int32](1), ptr.To[int32](1)
	j.Spec.BackoffLimit = ptr.To[int32](100)
	return j
}

// trigger makes the pods go, again where it is refused, and returns once all of them have begun to.
func (r *run) trigger(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, triggerTimeout)
	defer cancel()
	switch r.plan.Trigger {
	case plan.Evict, plan.Delete:
		return r.each(func(pod *corev1.Pod) error { return r.request(ctx, pod) })
	case plan.Drain:
		return r.drain(ctx)
	case plan.Drains:
		var drains sync.WaitGroup
		errs := make([]error, 2)
		for i := range errs {
			drains.Go(func() { errs[i] = r.drain(ctx) })
		}
		drains.Wait()
		return errors.Join(errs...)
	case plan.Preempt:
		if err := r.insist(ctx, func(ctx context.Context) error { return r.preempt(ctx) }); err != nil {
			return err
		}
	case plan.Death:
		if err := r.die(ctx); err != nil {
			return err
		}
	}
	if t, ok := taints[r.plan.Trigger]; ok {
		if err := r.insist(ctx, func(ctx context.Context) error { return r.taint(ctx, t) }); err != nil {
			return err
		}
	}
	return r.each(func(pod *corev1.Pod) error { return r.gone(ctx, pod) })
}

// each does something with every pod at the same time.
func (r *run) each(do func(*corev1.Pod) error) error {
	var group sync.WaitGroup
	errs := make([]error, len(r.pods))
	for i, pod := range r.pods {
		group.Go(func() { errs[i] = do(pod) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// insist does something again and again until it succeeds.
func (r *run) insist(ctx context.Context, do func(context.Context) error) error {
	for {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if sleep(ctx, retryPause) != nil {
			return err
		}
	}
}

// gone returns once the pod has begun to go.
func (r *run) gone(ctx context.Context, pod *corev1.Pod) error {
	return bed.Until(ctx, func(ctx context.Context) error {
		going, err := r.going(ctx, pod)
		if err == nil && !going {
			err = fmt.Errorf("pod %q has not begun to go", pod.Name)
		}
		return err
	})
}

func (r *run) going(ctx context.Context, pod *corev1.Pod) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	var now corev1.Pod
	err := r.Bed.Client.Get(ctx, client.ObjectKeyFromObject(pod), &now)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return err == nil && (now.UID != pod.UID || now.DeletionTimestamp != nil || now.Status.Phase == corev1.PodFailed), err
}

// request asks for the pod's eviction, or deletes it, until it goes.
func (r *run) request(ctx context.Context, pod *corev1.Pod) error {
	for {
		refused := r.requestOnce(ctx, pod)
		going, err := r.going(ctx, pod)
		if going {
			return nil
		}
		if sleep(ctx, retryPause) != nil {
			return fmt.Errorf("pod %q is still there: %w", pod.Name, errors.Join(refused, err))
		}
	}
}

func (r *run) requestOnce(ctx context.Context, pod *corev1.Pod) (err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	begun := time.Now()
	q := &history.Request{Verb: "evict", Pod: pod.Name, UID: pod.UID, Code: 201}
	if r.plan.Trigger == plan.Delete {
		q.Verb, q.Code = "delete", 200
		err = r.Bed.Client.Delete(ctx, pod, client.Preconditions{UID: &pod.UID})
	} else {
		err = r.Bed.Client.SubResource("eviction").Create(ctx, pod, &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}},
		})
	}
	q.Took = time.Since(begun)
	if err != nil {
		q.Error, q.Code = err.Error(), 0
		if status := apierrors.APIStatus(nil); errors.As(err, &status) {
			q.Code = int(status.Status().Code)
		}
	}
	r.log.Add(history.Entry{Request: q})
	return err
}

// drain runs kubectl drain until the source has none of the pods.
func (r *run) drain(ctx context.Context) error {
	return r.insist(ctx, func(ctx context.Context) error {
		requests := &drainLog{log: r.log}
		_, err := r.Bed.Kubectl.Drain(ctx, kubectl.Drain{
			Node: r.source, Selector: r.selector(), Timeout: attemptTimeout, Verbosity: 6, Output: requests,
		})
		if err != nil {
			r.log.Add(history.Entry{Event: &history.Event{Kind: "Run", Name: r.source, Reason: "DrainFailed", Message: err.Error()}})
			return errors.New("kubectl drain ended with an error; the history has it")
		}
		return nil
	})
}

// taint puts a taint on the source.
func (r *run) taint(ctx context.Context, t corev1.Taint) error {
	return r.Bed.Kubectl.Taint(ctx, r.source, t.Key+"=:"+string(t.Effect))
}

// preempt makes a pod of higher priority that fits on the source only when the run's pod goes.
func (r *run) preempt(ctx context.Context) error {
	const name = "preemptor"
	priority := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: r.maker.Namespace}, Value: 1000}
	if err := r.Bed.Client.Create(ctx, priority); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making priority class %q: %w", priority.Name, err)
	}
	container := r.maker.Stepper(name, containerName(0))
	container.Resources.Requests = half
	template := r.maker.Template(name, container)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.maker.Namespace, Name: name, Labels: template.Labels}, Spec: template.Spec}
	pod.Spec.PriorityClassName = priority.Name
	pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: r.source}
	if err := r.Bed.Client.Create(ctx, pod); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making pod %q: %w", pod.Name, err)
	}
	return nil
}

// die kills the source after a checkpoint such as one of a schedule, or what became of it.
func (r *run) die(ctx context.Context) error {
	err := r.each(func(pod *corev1.Pod) error {
		return r.insist(ctx, func(ctx context.Context) error {
			pc := match.NewCheckpoint(pod, match.Request{Attempt: 1, Reason: v1alpha1.ReasonSchedule})
			if err := r.Bed.Client.Create(ctx, pc); !apierrors.IsAlreadyExists(err) {
				return err
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	saved, cancel := context.WithTimeout(ctx, savedTimeout)
	defer cancel()
	// One that fails is what faults lead to: the pod then starts cold.
	_ = r.each(func(pod *corev1.Pod) error {
		return bed.Until(saved, func(ctx context.Context) error {
			all, err := r.Bed.Checkpoints(ctx, pod.Namespace, pod.UID)
			if err == nil && (len(all) != 1 || !all[0].Status.Phase.Final() && all[0].Status.Phase != v1alpha1.PhaseReady) {
				err = fmt.Errorf("pod %q is not saved", pod.Name)
			}
			return err
		})
	})
	node, err := r.Bed.Cluster.Node(r.source)
	if err != nil {
		return err
	}
	if err := node.Kill(ctx); err != nil {
		return err
	}
	// An administrator who gives the node up has seen that it is dead.
	return bed.Until(ctx, func(ctx context.Context) error {
		ready, err := r.Bed.Ready(ctx, r.source)
		if err == nil && ready {
			err = fmt.Errorf("node %q is still ready", r.source)
		}
		return err
	})
}

// sleep returns early, with the context's error, when that ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
