// SPDX-License-Identifier: Apache-2.0

package crowd

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
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
	return k.together(func(pod *corev1.Pod) Answer { return k.evict(ctx, pod) })
}

// Drain is Evict by clients that try again at once whenever they are put off.
func (k *Crowd) Drain(ctx context.Context) []Answer {
	return k.together(func(pod *corev1.Pod) Answer {
		for {
			if a := k.evict(ctx, pod); !a.PutOff() || ctx.Err() != nil {
				return a
			}
		}
	})
}

func (k *Crowd) together(evict func(*corev1.Pod) Answer) []Answer {
	answers := make([]Answer, len(k.pods))
	var all sync.WaitGroup
	for n, pod := range k.pods {
		all.Go(func() { answers[n] = evict(pod) })
	}
	all.Wait()
	return answers
}

func (k *Crowd) evict(ctx context.Context, pod *corev1.Pod) Answer {
	began := time.Now()
	err := k.bed.Admin.SubResource("eviction").Create(ctx, pod.DeepCopy(), &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
	})
	return Answer{Pod: pod.Name, Took: time.Since(began), At: time.Now(), Err: err}
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

// begin takes one checkpoint through the phases that come before Ready.
func (k *Crowd) begin(ctx context.Context, pc *v1alpha1.PodCheckpoint) {
	for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseFreezing, v1alpha1.PhaseDumping, v1alpha1.PhaseExporting} {
		if k.enter(ctx, pc, phase) != nil {
			return // the trial sees the phase that it has stayed in
		}
	}
}

// enter writes the phase, whoever else writes.
func (k *Crowd) enter(ctx context.Context, pc *v1alpha1.PodCheckpoint, phase v1alpha1.Phase, changes ...func(*v1alpha1.PodCheckpointStatus)) error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		now := &v1alpha1.PodCheckpoint{}
		if err := k.bed.Admin.Get(ctx, client.ObjectKeyFromObject(pc), now); err != nil {
			return err
		}
		now.Status.Enter(phase, "", time.Now())
		for _, change := range changes {
			change(&now.Status)
		}
		return k.bed.Admin.Status().Update(ctx, now)
	})
	if err != nil {
		return fmt.Errorf("making PodCheckpoint %q %s: %w", pc.Name, phase, err)
	}
	return nil
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
		err := k.enter(ctx, &pc, v1alpha1.PhaseReady, func(s *v1alpha1.PodCheckpointStatus) {
			s.Owner = &v1alpha1.Owner{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: types.UID("owner-" + k.namespace)}
			s.Containers = []v1alpha1.ContainerCheckpoint{{Name: "main", BaseImage: "registry.test/app:1"}}
		})
		if err != nil {
			return err
		}
		mu.Lock()
		written[pc.Spec.PodName] = time.Now()
		mu.Unlock()
		return nil
	})
}

// Phases counts the crowd's checkpoints by phase.
func (k *Crowd) Phases(ctx context.Context) (map[v1alpha1.Phase]int, error) {
	var list v1alpha1.PodCheckpointList
	if err := k.bed.Admin.List(ctx, &list, client.InNamespace(k.namespace)); err != nil {
		return nil, fmt.Errorf("listing PodCheckpoints: %w", err)
	}
	phases := map[v1alpha1.Phase]int{}
	for _, pc := range list.Items {
		phases[pc.Status.Phase]++
	}
	return phases, nil
}
