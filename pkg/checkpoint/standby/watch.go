// SPDX-License-Identifier: Apache-2.0

package standby

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// pods brings the checkpoints of pods that change here, and remembers how pods were when they went: the last state in the watch is the
// only place that tells.
func (r *Reconciler) pods() handler.EventHandler {
	return handler.Funcs{
		UpdateFunc: func(ctx context.Context, e ctrlevent.UpdateEvent, q queue) {
			r.enqueue(ctx, e.ObjectNew.GetNamespace(), e.ObjectNew.GetUID(), q)
		},
		DeleteFunc: func(ctx context.Context, e ctrlevent.DeleteEvent, q queue) {
			if pod, ok := e.Object.(*corev1.Pod); ok {
				r.Saw(ctx, pod, e.DeleteStateUnknown)
				r.enqueue(ctx, pod.Namespace, pod.UID, q)
			}
		},
	}
}

func (r *Reconciler) enqueue(ctx context.Context, namespace string, pod types.UID, q queue) {
	for _, req := range r.ofPod(ctx, namespace, pod) {
		q.Add(req)
	}
}

func (r *Reconciler) siblings(ctx context.Context, obj client.Object) []reconcile.Request {
	pc, ok := obj.(*v1alpha1.PodCheckpoint)
	if !ok {
		return nil
	}
	return r.ofPod(ctx, pc.Namespace, pc.Spec.PodUID)
}

func (r *Reconciler) ofPod(ctx context.Context, namespace string, pod types.UID) []reconcile.Request {
	pcs, err := index.Saving(ctx, r.Client, namespace, pod)
	if err != nil {
		log.FromContext(ctx).Error(err, "Looking up the PodCheckpoints of a pod failed")
		return nil
	}
	return requests(pcs)
}

// onNode are the PodCheckpoints of pods of the node.
func (r *Reconciler) onNode(ctx context.Context, node client.Object) []reconcile.Request {
	pcs, err := index.FromNode(ctx, r.Client, node.GetName())
	if err != nil {
		log.FromContext(ctx).Error(err, "Looking up the PodCheckpoints of a node failed")
		return nil
	}
	return requests(pcs)
}

func requests(pcs []v1alpha1.PodCheckpoint) []reconcile.Request {
	var out []reconcile.Request
	for i := range pcs {
		if Concerns(&pcs[i]) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&pcs[i])})
		}
	}
	return out
}

// nodeChanges are the changes of nodes that matter: they go, are taken out of service, are heard of no more, or are again.
func nodeChanges() predicate.Predicate {
	telling := func(obj client.Object) (out [3]bool) {
		node, ok := obj.(*corev1.Node)
		if !ok {
			return out
		}
		for _, t := range node.Spec.Taints {
			switch t.Key {
			case corev1.TaintNodeOutOfService:
				out[0] = true
			case corev1.TaintNodeUnreachable:
				out[1] = true
			case corev1.TaintNodeNotReady:
				out[2] = true
			}
		}
		return out
	}
	return predicate.Funcs{
		CreateFunc: func(ctrlevent.CreateEvent) bool { return false },
		UpdateFunc: func(e ctrlevent.UpdateEvent) bool { return telling(e.ObjectOld) != telling(e.ObjectNew) },
	}
}

// Saw remembers how a pod was when it went. Where the watch was interrupted meanwhile (unknown), its last known state tells how it was
// before, and that it is gone; what happened in between, nobody knows.
func (r *Reconciler) Saw(ctx context.Context, pod *corev1.Pod, unknown bool) {
	if unknown || len(r.ofPod(ctx, pod.Namespace, pod.UID)) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.Clock.Now()
	if r.last == nil {
		r.last = map[types.UID]sighting{}
	}
	for uid, s := range r.last {
		if now.Sub(s.at) > rememberFor {
			delete(r.last, uid)
		}
	}
	r.last[pod.UID] = sighting{pod: pod.DeepCopy(), at: now}
}

// source is the pod that the PodCheckpoint was made of. A pod that the cache lacks may have gone a moment ago, with the word of how on its
// way: wait tells how long to give it.
func (r *Reconciler) source(ctx context.Context, pc *v1alpha1.PodCheckpoint) (s Source, wait time.Duration, err error) {
	key := client.ObjectKey{Namespace: pc.Namespace, Name: pc.Spec.PodName}
	for _, reader := range []client.Reader{r.Client, r.Live} {
		pod := &corev1.Pod{}
		err := reader.Get(ctx, key, pod)
		switch {
		case err == nil && pod.UID == pc.Spec.PodUID:
			r.found(pod.UID)
			return Source{Pod: pod}, 0, nil
		case err != nil && !apierrors.IsNotFound(err):
			return Source{}, 0, fmt.Errorf("reading pod %q: %w", key.Name, err)
		}
		if last := r.seen(pc.Spec.PodUID); last != nil {
			return Source{Pod: last, Gone: true}, 0, nil
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.Clock.Now()
	since, known := r.missing[pc.Spec.PodUID]
	if !known {
		if r.missing == nil {
			r.missing = map[types.UID]time.Time{}
		}
		since = now
		r.missing[pc.Spec.PodUID] = now
	}
	if rest := since.Add(handOver).Sub(now); rest > 0 {
		return Source{}, rest, nil
	}
	delete(r.missing, pc.Spec.PodUID)
	return Source{Gone: true}, 0, nil
}

func (r *Reconciler) found(pod types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.missing, pod)
}

func (r *Reconciler) seen(pod types.UID) *corev1.Pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.last[pod]; ok {
		return s.pod
	}
	return nil
}
