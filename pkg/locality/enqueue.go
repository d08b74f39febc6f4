// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// EventsToRegister returns what may make a refused or held pod schedulable: a node that fits it, a node that is to stay after all, and the pod's
// own fall-back to a cold start. The fourth, a change of a NodeProfile or PodCheckpoint, comes through the plugin's own watch (see data).
func (p *Plugin) EventsToRegister(context.Context) ([]fwk.ClusterEventWithHint, error) {
	return []fwk.ClusterEventWithHint{
		{Event: fwk.ClusterEvent{Resource: fwk.Node, ActionType: fwk.Add | fwk.UpdateNodeTaint | fwk.UpdateNodeAnnotation},
			QueueingHintFn: p.nodeComes},
		{Event: fwk.ClusterEvent{Resource: fwk.TargetPod, ActionType: fwk.Update}, QueueingHintFn: podUpdated},
	}, nil
}

// nodeComes looks at a node that is new, or that does not end, or is not cordoned, any more.
func (p *Plugin) nodeComes(_ klog.Logger, pod *corev1.Pod, oldObj, newObj any) (fwk.QueueingHint, error) {
	n, ok := newObj.(*corev1.Node)
	if !ok {
		return fwk.Queue, fmt.Errorf("reading a node's event: got %T", newObj)
	}
	clk := p.waiting.clock
	if before, ok := oldObj.(*corev1.Node); ok && closed(pod, before, clk) == nil || !p.takes(pod, n) {
		return fwk.QueueSkip, nil
	}
	return fwk.Queue, nil
}

func podUpdated(_ klog.Logger, _ *corev1.Pod, _, newObj any) (fwk.QueueingHint, error) {
	pod, ok := newObj.(*corev1.Pod)
	if !ok {
		return fwk.Queue, fmt.Errorf("reading a pod's event: got %T", newObj)
	}
	if restoring(pod) {
		return fwk.QueueSkip, nil
	}
	return fwk.Queue, nil
}

// watchNodes knows which nodes may end, and wakes the pods that a node fits which is new, or does not end, or is not cordoned, any more. It takes more
// than nodeComes: the scheduler asks one plugin's hint and leaves the others', and PreEnqueue has to know.
func (p *Plugin) watchNodes(nodes coreinformers.NodeInformer) error {
	lister := nodes.Lister()
	p.waiting.takes = func(pod *corev1.Pod, name string) bool {
		n, err := lister.Get(name)
		return err == nil && p.takes(pod, n)
	}
	seen, err := nodes.Informer().AddEventHandler(handler(func(before, after *corev1.Node) {
		if after == nil {
			p.departures.seen(before.Name, false)
			return
		}
		p.departures.seen(after.Name, mayEnd(after))
		if before != nil && !mayClose(before) {
			return
		}
		p.waiting.opened(klog.Background().WithValues("plugin", Name), after.Name, func(pod *corev1.Pod) bool { return p.takes(pod, after) })
	}))
	if err != nil {
		return err
	}
	p.departures.synced = seen.HasSynced
	return nil
}

// mayClose reports whether the node may be closed to some restoring pod.
func mayClose(n *corev1.Node) bool {
	return mayEnd(n) || leaving(n) != nil
}

// takes reports whether Filter would let the pod onto the node.
func (p *Plugin) takes(pod *corev1.Pod, n *corev1.Node) bool {
	return closed(pod, n, p.waiting.clock) == nil && p.fits(pod, p.data.node(n.Name))
}

// nodeChanged wakes the pods that a node fits now.
func (p *Plugin) nodeChanged(before, after *node) {
	if after != nil {
		p.underWay.arrived(after.Name, after.Index)
	}
	if after == nil || before != nil && before.sameAbilities(after) {
		return
	}
	p.waiting.fitted(klog.Background().WithValues("plugin", Name), func(pod *corev1.Pod) bool { return p.fits(pod, after) })
}

// checkpointChanged wakes the pod that restores from a checkpoint that became known, is over or was deleted.
func (p *Plugin) checkpointChanged(before, after *checkpoint) {
	c := after
	if after == nil {
		c = before
	} else if before != nil && before.over() == after.over() {
		return
	}
	p.waiting.wake(klog.Background().WithValues("plugin", Name), func(pod *corev1.Pod) bool {
		return pod.Namespace == c.Namespace && pod.Annotations[v1alpha1.AnnotationRestoreFrom] == c.Name
	})
}

// fits reports whether Filter would let the pod onto a node of that profile that stays.
func (p *Plugin) fits(pod *corev1.Pod, n *node) bool {
	if !restoring(pod) {
		return true
	}
	t, _ := p.target(p.checkpointOf(pod))
	return t == nil || t.refuses(n) == nil
}
