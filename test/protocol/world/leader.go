// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint"
	"github.com/cryopod/cryopod/pkg/checkpoint/claim"
	"github.com/cryopod/cryopod/pkg/checkpoint/evacuation"
	"github.com/cryopod/cryopod/pkg/checkpoint/expiry"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/checkpoint/removal"
	"github.com/cryopod/cryopod/pkg/checkpoint/restore"
	"github.com/cryopod/cryopod/pkg/checkpoint/standby"
	"github.com/cryopod/cryopod/pkg/termination"
)

const leaderRetry = time.Second

// leader is one life of a process that leads, or believes to: production's controllers.
type leader struct {
	*Proc
	claim, restore, expiry, removal, standby, evacuation *queue

	saw *standby.Reconciler
}

// startLeader begins a life of a leader.
func (w *World) startLeader(name string) {
	l := &leader{Proc: w.newProc(name, oursFaults, true)}
	cached, live := &api{p: l.Proc}, &api{p: l.Proc, live: true}
	remover := removal.Remover{Client: cached, Live: live, Events: noEvents{}, Clock: l.clock}
	l.saw = &standby.Reconciler{Client: cached, Live: live, Events: noEvents{}, Clock: l.clock}
	l.claim = l.controller(&claim.Reconciler{Client: cached, Live: live, Events: noEvents{}, Clock: l.clock,
		UnboundAfter: checkpoint.DefaultUnboundAfter})
	l.restore = l.controller(&restore.Reconciler{Client: cached, Live: live, Events: noEvents{}, Clock: l.clock})
	l.expiry = l.controller(&expiry.Reconciler{Client: cached, Live: live, Events: noEvents{}, Clock: l.clock,
		Limits: expiry.Limits{ReadyFor: checkpoint.DefaultReadyFor}})
	l.removal = l.controller(&removal.Reconciler{Remover: remover, Taints: termination.Defaults()})
	l.standby = l.controller(l.saw)
	l.evacuation = l.controller(&evacuation.Reconciler{Remover: remover, Taints: termination.Defaults()})
	l.cache.tell = l.tell
	for _, obj := range l.cache.now {
		l.tell(change{ref: refOf(obj), after: obj})
	}
}

func (l *leader) controller(r interface {
	Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error)
},
) *queue {
	return l.newQueue(leaderRetry, func(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
		result, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: key})
		return result.RequeueAfter, err
	})
}

// tell wakes the controllers as their watches do.
func (l *leader) tell(ch change) {
	switch obj := ch.object().(type) {
	case *v1alpha1.PodCheckpoint:
		for _, q := range []*queue{l.claim, l.expiry, l.removal} {
			q.addObject(obj)
		}
		for _, pc := range l.saving(obj.Spec.PodUID) {
			l.standby.addObject(pc)
		}
		for _, pod := range all[*corev1.Pod](l.cache.now) {
			if pod.Annotations[v1alpha1.AnnotationRestoreFrom] == obj.Name {
				l.restore.addObject(pod)
			}
		}
		l.evacuation.add(types.NamespacedName{Name: obj.Spec.NodeName})
	case *corev1.Pod:
		l.tellPod(ch, obj)
	case *corev1.Node:
		l.evacuation.addObject(obj)
		for _, pc := range all[*v1alpha1.PodCheckpoint](l.cache.now) {
			if pc.Spec.NodeName == obj.Name {
				l.standby.addObject(pc)
			}
		}
	case *v1alpha1.NodeProfile:
		l.evacuation.addObject(obj)
	}
}

func (l *leader) tellPod(ch change, pod *corev1.Pod) {
	for _, name := range index.ByRestoreFrom(pod) {
		if ch.before == nil || ch.after == nil {
			l.claim.add(client.ObjectKey{Namespace: pod.Namespace, Name: name})
		}
		l.restore.addObject(pod)
	}
	if ch.after == nil {
		l.saw.Saw(l.ctx, pod, false)
	}
	for _, pc := range l.saving(pod.UID) {
		if ch.before != nil {
			l.standby.addObject(pc)
		}
		if ch.after == nil {
			l.expiry.addObject(pc)
		}
	}
	if pod.Spec.NodeName != "" {
		l.evacuation.add(types.NamespacedName{Name: pod.Spec.NodeName})
	}
}

func (l *leader) saving(pod types.UID) []*v1alpha1.PodCheckpoint {
	var out []*v1alpha1.PodCheckpoint
	for _, pc := range all[*v1alpha1.PodCheckpoint](l.cache.now) {
		if pc.Spec.PodUID == pod {
			out = append(out, pc)
		}
	}
	return out
}
