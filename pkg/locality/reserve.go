// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
)

// Reserve notes what the node has to do for the pod from now on, so that the pods that are scheduled next count with it. It never refuses.
func (p *Plugin) Reserve(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, nodeName string) *fwk.Status {
	if !optedIn(pod) {
		// What is bound is seen by pods.
		return nil
	}
	info, err := p.handle.SnapshotSharedLister().NodeInfos().Get(nodeName)
	if err != nil {
		return nil // the node is gone: so will be the pod
	}
	w, ok := read[*work](state, workKey)
	if !ok {
		// The only node that there was is not scored.
		w = p.workFor(pod, nil)
	}
	n := p.data.node(nodeName)
	j := w.on(n, info.GetImageStates())
	predicted := p.predictor.seconds(p.underWay.load(w, n, info), n.measured())
	p.underWay.add(pod.UID, start{
		node: nodeName, job: j, predicted: time.Duration(predicted * float64(time.Second)), restoring: restoring(pod),
	})
	klog.FromContext(ctx).V(2).Info("Predicted", "plugin", Name, "pod", klog.KObj(pod), "node", nodeName, "seconds", predicted,
		"pullBytes", j.bytes(), "restoreBytes", j.restore)
	return nil
}

// Unreserve takes that back.
func (p *Plugin) Unreserve(_ context.Context, _ fwk.CycleState, pod *corev1.Pod, _ string) {
	p.underWay.remove(pod.UID)
}

// watchPods keeps what is under way in step with the pods: those that any scheduler has bound, and those that run.
func (p *Plugin) watchPods(pods cache.SharedIndexInformer) error {
	_, err := pods.AddEventHandler(handler(func(before, after *corev1.Pod) {
		if after == nil {
			p.underWay.remove(before.UID)
			return
		}
		p.podSeen(after)
	}))
	return err
}

func (p *Plugin) podSeen(pod *corev1.Pod) {
	switch {
	case pod.Spec.NodeName == "":
	case pod.Status.Phase == corev1.PodPending || pod.Status.Phase == "":
		p.bound(pod)
	default:
		p.started(pod.UID, klog.KObj(pod))
	}
}

// bound notes a pod that somebody else placed.
func (p *Plugin) bound(pod *corev1.Pod) {
	if p.underWay.known(pod.UID) {
		return
	}
	w := p.workFor(pod, nil)
	p.underWay.add(pod.UID, start{node: pod.Spec.NodeName, job: w.on(p.data.node(pod.Spec.NodeName), nil), restoring: restoring(pod)})
}

// started compares the prediction for a pod that runs with what it took.
func (p *Plugin) started(uid types.UID, name klog.ObjectRef) {
	s, took := p.underWay.remove(uid)
	if s == nil || s.predicted == 0 {
		return
	}
	kind := kindFresh
	if s.restoring {
		kind = kindRestore
	}
	predictedStart.WithLabelValues(kind).Observe(s.predicted.Seconds())
	actualStart.WithLabelValues(kind).Observe(took.Seconds())
	klog.Background().V(2).Info("Started", "plugin", Name, "pod", name, "node", s.node, "predicted", s.predicted.Seconds(), "actual", took.Seconds())
}
