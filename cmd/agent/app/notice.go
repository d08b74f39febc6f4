// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/agent/pressure"
	"github.com/cryopod/cryopod/pkg/agent/shutdown"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/metrics"
	"github.com/cryopod/cryopod/pkg/wish"
)

// addNotices adds what sees the end of pods coming that no taint and no admission request tells of.
func (a *agent) addNotices() error {
	var errs []error
	if a.SystemBus != "" {
		errs = append(errs, a.mgr.Add(&shutdown.Watcher{
			Connect: shutdown.Dial(a.SystemBus),
			Pods: func(ctx context.Context) (int, error) {
				pods, err := a.triggered(ctx, v1alpha1.TriggerTermination)
				return len(pods), err
			},
			Announce: a.announce(v1alpha1.NoticeShutdown),
			Clock:    a.clock,
		}))
	}
	if threshold := a.PressureMemory.Value(); threshold > 0 {
		errs = append(errs, a.mgr.Add(&pressure.Watcher{
			Threshold: threshold, Available: pressure.Read, Pods: a.large, Announce: a.announce(v1alpha1.NoticeMemoryPressure), Clock: a.clock,
		}))
	}
	return errors.Join(errs...)
}

// triggered lists the opted-in pods of the node that are to be saved when they go that way.
func (a *agent) triggered(ctx context.Context, by v1alpha1.Trigger) ([]containerd.Pod, error) {
	all, err := a.runtime.EnabledPods(ctx)
	if err != nil {
		return nil, err
	}
	var pods []containerd.Pod
	for _, p := range all {
		if wish.Triggered(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: p.Annotations}}, by) {
			pods = append(pods, p)
		}
	}
	return pods, nil
}

// large lists the pods that may move when memory runs out, with what they use.
func (a *agent) large(ctx context.Context) ([]pressure.Pod, error) {
	pods, err := a.triggered(ctx, v1alpha1.TriggerEviction)
	if err != nil || len(pods) == 0 {
		return nil, err
	}
	used, err := a.runtime.MemoryInUse(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]pressure.Pod, 0, len(pods))
	for _, p := range pods {
		found = append(found, pressure.Pod{UID: p.UID, Namespace: p.Namespace, Name: p.Name, Bytes: used[p.UID]})
	}
	return found, nil
}

// announce publishes the notices of a cause in the node's profile, and tells people of each.
func (a *agent) announce(cause v1alpha1.NoticeCause) func(*v1alpha1.NodeNotice) {
	recorder := a.mgr.GetEventRecorder("cryopod-agent")
	return func(n *v1alpha1.NodeNotice) {
		a.profile.Announce(cause, n)
		if n == nil {
			return
		}
		metrics.CountNotice(cause)
		// The name for UID, as the kubelet has it: so "kubectl describe node" finds the event.
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.NodeName, UID: types.UID(a.NodeName)}}
		recorder.Eventf(node, nil, corev1.EventTypeWarning, string(cause)+"Announced", "Announce",
			"%s; what can be saved moves while there is time", n.Message)
	}
}
