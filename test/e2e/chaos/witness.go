// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/chaos/history"
	"github.com/cryopod/cryopod/test/e2e/object"
)

// witness takes down what changes in the namespace of the run that is under way. Its watches outlive failures of the API server.
type witness struct {
	mu        sync.Mutex
	namespace string
	log       *history.Log
	// last are the objects as they were taken down last: a change of what nobody takes down is none.
	last map[types.UID]any
	// phases are those of the PodCheckpoints, changed is closed when one of them changes.
	phases  map[types.UID]v1alpha1.Phase
	changed chan struct{}
}

// watch begins to watch the cluster until ctx is done.
func watch(ctx context.Context, b *bed.Bed) (*witness, error) {
	config, err := b.Cluster.RESTConfig()
	if err != nil {
		return nil, err
	}
	objects, err := cache.New(config, cache.Options{Scheme: b.Client.Scheme()})
	if err != nil {
		return nil, fmt.Errorf("making a watch of cluster %q: %w", b.Cluster.Name(), err)
	}
	w := &witness{changed: make(chan struct{})}
	for _, kind := range []client.Object{&corev1.Pod{}, &corev1.Event{}, &v1alpha1.PodCheckpoint{}} {
		informer, err := objects.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watching %T of cluster %q: %w", kind, b.Cluster.Name(), err)
		}
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { w.note(o, false) },
			UpdateFunc: func(_, o any) { w.note(o, false) },
			DeleteFunc: func(o any) {
				if unknown, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
					o = unknown.Obj
				}
				w.note(o, true)
			},
		})
		if err != nil {
			return nil, fmt.Errorf("watching %T of cluster %q: %w", kind, b.Cluster.Name(), err)
		}
	}
	go func() { _ = objects.Start(ctx) }()
	if !objects.WaitForCacheSync(ctx) {
		return nil, fmt.Errorf("watching cluster %q: %w", b.Cluster.Name(), ctx.Err())
	}
	return w, nil
}

// follow has what changes in the namespace from now on taken down.
func (w *witness) follow(namespace string, log *history.Log) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.namespace, w.log = namespace, log
	w.last, w.phases = map[types.UID]any{}, map[types.UID]v1alpha1.Phase{}
}

// note takes in an object that has changed.
func (w *witness) note(o any, gone bool) {
	object, ok := o.(client.Object)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.log == nil || object.GetNamespace() != w.namespace {
		return
	}
	e := entry(object, gone)
	if reflect.DeepEqual(w.last[object.GetUID()], e) {
		return
	}
	w.last[object.GetUID()] = e
	w.log.Add(e)
	if pc, ok := object.(*v1alpha1.PodCheckpoint); ok {
		w.phases[pc.UID] = pc.Status.Phase
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

// until returns once holds is true of the phase of any PodCheckpoint.
func (w *witness) until(ctx context.Context, holds func(v1alpha1.Phase) bool) error {
	for {
		w.mu.Lock()
		changed := w.changed
		for _, p := range w.phases {
			if holds(p) {
				w.mu.Unlock()
				return nil
			}
		}
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// entry is what is taken down of an object.
func entry(o client.Object, gone bool) history.Entry {
	switch o := o.(type) {
	case *corev1.Pod:
		return history.Entry{Pod: podEntry(o, gone)}
	case *v1alpha1.PodCheckpoint:
		return history.Entry{Checkpoint: checkpointEntry(o, gone)}
	case *corev1.Event:
		return history.Entry{Event: &history.Event{
			Kind: o.InvolvedObject.Kind, Name: o.InvolvedObject.Name, Reason: o.Reason, Message: o.Message,
		}}
	}
	return history.Entry{}
}

func podEntry(p *corev1.Pod, gone bool) *history.Pod {
	found := &history.Pod{
		UID: p.UID, Name: p.Name, Workload: p.Labels[object.LabelApp], Node: p.Spec.NodeName, IP: p.Status.PodIP, Phase: string(p.Status.Phase),
		Going: p.DeletionTimestamp != nil, Gone: gone,
		RestoreFrom: p.Annotations[v1alpha1.AnnotationRestoreFrom], FellBack: p.Annotations[v1alpha1.AnnotationFellBack],
	}
	for _, s := range p.Status.ContainerStatuses {
		c := history.Container{Name: s.Name, Running: s.State.Running != nil, Restarts: s.RestartCount}
		switch {
		case s.State.Waiting != nil:
			c.Reason = s.State.Waiting.Reason
		case s.State.Terminated != nil:
			c.Reason = s.State.Terminated.Reason
		}
		found.Containers = append(found.Containers, c)
	}
	return found
}

func checkpointEntry(c *v1alpha1.PodCheckpoint, gone bool) *history.Checkpoint {
	_, ready := c.Status.Entered(v1alpha1.PhaseReady)
	found := &history.Checkpoint{
		Name: c.Name, PodUID: c.Spec.PodUID, Reason: c.Spec.Reason, Removal: match.RemovalOf(c), Fence: c.Spec.Fence,
		Phase: c.Status.Phase, Message: c.Status.Message, Containers: len(c.Status.Containers), Gone: gone, Ready: ready,
	}
	if c.Spec.Deadline != nil {
		found.Deadline = c.Spec.Deadline.Time
	}
	for _, image := range c.Status.Containers {
		if image.Image != "" {
			found.Images++
		}
	}
	if c.Status.Claim != nil {
		found.ClaimedBy = c.Status.Claim.PodUID
	}
	return found
}
