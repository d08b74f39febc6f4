// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/chaos/fault"
	"github.com/cryopod/cryopod/test/e2e/chaos/history"
	"github.com/cryopod/cryopod/test/e2e/chaos/plan"
	"github.com/cryopod/cryopod/test/e2e/install"
	"github.com/cryopod/cryopod/test/e2e/object"
)

// nowhere is a label that no node has.
const nowhere = "cryopod-chaos-nowhere"

// faultOf is a fault by its name: one of package fault, or plan.AllDown.
func faultOf(name string) (fault.Fault, bool) {
	if name == plan.AllDown {
		return fault.Fault{Name: name, Do: allDown}, true
	}
	return fault.ByName(name)
}

// allDown takes every part of Cryopod away at once, until it is undone.
func allDown(ctx context.Context, t *fault.Target, r *rand.Rand) (fault.Undo, string, error) {
	replicas := map[string]int32{}
	for _, name := range []string{"cryopod-webhook", "cryopod-scheduler"} {
		var d appsv1.Deployment
		if err := t.Bed.Client.Get(ctx, client.ObjectKey{Namespace: install.Namespace, Name: name}, &d); err != nil {
			return nil, "", fmt.Errorf("reading Deployment %q: %w", name, err)
		}
		replicas[name] = *d.Spec.Replicas
	}
	undo := func(ctx context.Context) error {
		errs := []error{selectNodes(ctx, t.Bed, "null")}
		for name, n := range replicas {
			errs = append(errs, scale(ctx, t.Bed, name, n))
		}
		return errors.Join(errs...)
	}
	errs := []error{selectNodes(ctx, t.Bed, `"true"`)}
	for name := range replicas {
		errs = append(errs, scale(ctx, t.Bed, name, 0))
	}
	// Not by their own leave: they have no time to put anything in order.
	for _, name := range []string{"kill-agent", "kill-webhooks", "kill-scheduler"} {
		f, _ := fault.ByName(name)
		_, _, err := f.Do(ctx, t, r)
		errs = append(errs, err)
	}
	errs = append(errs, removeParts(ctx, t.Bed))
	if err := errors.Join(errs...); err != nil {
		return nil, "", errors.Join(err, undo(context.WithoutCancel(ctx)))
	}
	return undo, "took every part of Cryopod away", nil
}

func scale(ctx context.Context, b *bed.Bed, name string, replicas int32) error {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: install.Namespace, Name: name}}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
	if err := b.Client.Patch(ctx, d, patch); err != nil {
		return fmt.Errorf("scaling Deployment %q to %d: %w", name, replicas, err)
	}
	return nil
}

// selectNodes has the agents run where a label has that value, in JSON.
func selectNodes(ctx context.Context, b *bed.Bed, value string) error {
	d := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: install.Namespace, Name: "cryopod-agent"}}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"template":{"spec":{"nodeSelector":{%q:%s}}}}}`, nowhere, value))
	if err := b.Client.Patch(ctx, d, patch); err != nil {
		return fmt.Errorf("choosing the nodes of the agents: %w", err)
	}
	return nil
}

// removeParts removes Cryopod's pods by force and returns once there is none.
func removeParts(ctx context.Context, b *bed.Bed) error {
	return bed.Until(ctx, func(ctx context.Context) error {
		var pods corev1.PodList
		if err := b.Client.List(ctx, &pods, client.InNamespace(install.Namespace)); err != nil {
			return err
		}
		for i := range pods.Items {
			err := b.Client.Delete(ctx, &pods.Items[i], client.GracePeriodSeconds(0))
			if client.IgnoreNotFound(err) != nil {
				return err
			}
		}
		if n := len(pods.Items); n > 0 {
			return fmt.Errorf("there are still %d pods of Cryopod", n)
		}
		return nil
	})
}

// probes tries what has to go as without Cryopod while all of it is down.
func (r *run) probes(ctx context.Context) {
	for _, optedIn := range []bool{false, true} {
		name, what := "plain", "a pod that is none of Cryopod's business"
		if optedIn {
			name, what = "opted-in", "an opted-in pod"
		}
		template := r.maker.Template(name, r.maker.Stepper(name, containerName(0)))
		if !optedIn {
			template.Annotations = nil
		}
		// The one that is made by hand shows the answer to the very request; the other one needs a scheduler and controllers.
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.maker.Namespace, Name: name + "-alone"}, Spec: template.Spec}
		pod.Annotations, pod.Labels = template.Annotations, map[string]string{object.LabelApp: name + "-alone"}
		r.probeThat(ctx, "creating "+what, true, func(ctx context.Context) error { return r.Bed.Client.Create(ctx, pod) })
		r.probeThat(ctx, "deleting "+what, true, func(ctx context.Context) error {
			return r.Bed.Client.Delete(ctx, pod, client.GracePeriodSeconds(1))
		})
		d := r.maker.Deployment(name, template)
		var running *corev1.Pod
		r.probeThat(ctx, "starting "+what, false, func(ctx context.Context) (err error) {
			if err := r.Bed.Client.Create(ctx, d); err != nil {
				return err
			}
			running, err = r.Bed.RunningPod(ctx, r.maker.Namespace, name)
			return err
		})
		if running == nil {
			continue
		}
		r.probeThat(ctx, "evicting "+what, true, func(ctx context.Context) error {
			return r.Bed.Client.SubResource("eviction").Create(ctx, running, &policyv1.Eviction{
				ObjectMeta: metav1.ObjectMeta{Namespace: running.Namespace, Name: running.Name},
			})
		})
		r.probeThat(ctx, "replacing "+what, false, func(ctx context.Context) error {
			_, err := r.Bed.RunningPod(ctx, r.maker.Namespace, name, running.UID)
			return err
		})
	}
}

func (r *run) probeThat(ctx context.Context, what string, request bool, try func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	begun := time.Now()
	p := &history.Probe{What: what, Request: request}
	if err := try(ctx); err != nil {
		p.Error = err.Error()
	}
	p.Took = time.Since(begun)
	r.log.Add(history.Entry{Probe: p})
}
