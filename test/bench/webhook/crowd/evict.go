// SPDX-License-Identifier: Apache-2.0

package crowd

import (
	"context"
	"fmt"
	"sync"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// Answer is what came of one eviction.
type Answer struct {
	// Pod is whose it was.
	Pod string
	// Took is how long the client waited.
	Took time.Duration
	// At is when the answer came.
	At time.Time
	// Err is nil when the pod goes.
	Err error
}

// PutOff is whether it was the answer to come again.
func (a Answer) PutOff() bool { return apierrors.IsTooManyRequests(a.Err) }

// Evict evicts all pods of the crowd at once, and returns when the last one is answered.
func (k *Crowd) Evict(ctx context.Context) []Answer {
	answers := make([]Answer, len(k.pods))
	var all sync.WaitGroup
	for n, pod := range k.pods {
		all.Go(func() {
			began := time.Now()
			err := k.bed.Admin.SubResource("eviction").Create(ctx, pod.DeepCopy(), &policyv1.Eviction{
				ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
			})
			answers[n] = Answer{Pod: pod.Name, Took: time.Since(began), At: time.Now(), Err: err}
		})
	}
	all.Wait()
	return answers
}

// Agents writes what the agents of the nodes would about each checkpoint of the crowd as it is begun, up to the export, until the context
// ends. Then it returns nil.
func (k *Crowd) Agents(ctx context.Context) error {
	var list v1alpha1.PodCheckpointList
	if err := k.bed.Admin.List(ctx, &list, client.InNamespace(k.namespace)); err != nil {
		return fmt.Errorf("listing PodCheckpoints: %w", err)
	}
	w, err := k.bed.Admin.Watch(ctx, &list, client.InNamespace(k.namespace), &client.ListOptions{
		Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion},
	})
	if err != nil {
		return fmt.Errorf("watching PodCheckpoints: %w", err)
	}
	defer w.Stop()
	begun := make(chan *v1alpha1.PodCheckpoint, len(k.pods))
	var nodes sync.WaitGroup
	defer nodes.Wait()
	defer close(begun)
	for range 8 {
		nodes.Go(func() {
			for pc := range begun {
				k.begin(ctx, pc)
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-w.ResultChan():
			if !ok {
				return nil
			}
			if pc, is := event.Object.(*v1alpha1.PodCheckpoint); is && event.Type == watch.Added {
				begun <- pc
			}
		}
	}
}

// begin takes one checkpoint through the phases that come before Ready. One that somebody else has failed meanwhile stays so.
func (k *Crowd) begin(ctx context.Context, pc *v1alpha1.PodCheckpoint) {
	for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseFreezing, v1alpha1.PhaseDumping, v1alpha1.PhaseExporting} {
		pc.Status.Enter(phase, "", time.Now())
		if k.bed.Admin.Status().Update(ctx, pc) != nil {
			return
		}
	}
}

// Finish makes the checkpoints of all pods Ready, and returns when that was written, by pod.
func (k *Crowd) Finish(ctx context.Context) (map[string]time.Time, error) {
	var list v1alpha1.PodCheckpointList
	if err := k.bed.Admin.List(ctx, &list, client.InNamespace(k.namespace)); err != nil {
		return nil, fmt.Errorf("listing PodCheckpoints: %w", err)
	}
	var mu sync.Mutex
	written := map[string]time.Time{}
	return written, each(ctx, list.Items, func(ctx context.Context, pc v1alpha1.PodCheckpoint) error {
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
			if err := k.bed.Admin.Get(ctx, client.ObjectKeyFromObject(&pc), &pc); err != nil {
				return err
			}
			pc.Status.Owner = &v1alpha1.Owner{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d8f7c9b6d", UID: "owner"}
			pc.Status.Containers = []v1alpha1.ContainerCheckpoint{{Name: "main", BaseImage: "registry.test/app:1"}}
			pc.Status.Enter(v1alpha1.PhaseReady, "", time.Now())
			return k.bed.Admin.Status().Update(ctx, &pc)
		})
		if err != nil {
			return fmt.Errorf("finishing PodCheckpoint %q: %w", pc.Name, err)
		}
		mu.Lock()
		written[pc.Spec.PodName] = time.Now()
		mu.Unlock()
		return nil
	})
}

// Phases counts the crowd's checkpoints by phase, and those of another attempt than the first as such: no pod needs a second one here.
func (k *Crowd) Phases(ctx context.Context) (map[string]int, error) {
	var list v1alpha1.PodCheckpointList
	if err := k.bed.Admin.List(ctx, &list, client.InNamespace(k.namespace)); err != nil {
		return nil, fmt.Errorf("listing PodCheckpoints: %w", err)
	}
	phases := map[string]int{}
	for _, pc := range list.Items {
		phases[string(pc.Status.Phase)]++
		if match.Attempt(pc.Name) != 1 {
			phases["again"]++
		}
	}
	return phases, nil
}
