// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// probeTable is a table of the packet filter on the node.
const probeTable = "chaos_probe"

// failProbe has the liveness probe of a pod on the source fail, frozen or not, for as long as it lasts: what its kubelet asks does not come
// to the pod. Without such a pod it does nothing. Nothing else of the kubelet or the pod is touched.
func failProbe(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
	node, err := t.source()
	if err != nil {
		return nil, "", err
	}
	var pods corev1.PodList
	if err := t.Bed.Client.List(ctx, &pods, client.InNamespace(t.Namespace)); err != nil {
		return nil, "", fmt.Errorf("listing the pods of %q: %w", t.Namespace, err)
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		port := probePort(p)
		if p.Spec.NodeName != node.Name() || p.Status.PodIP == "" || port == 0 {
			continue
		}
		undo, err := filter(ctx, t.onMachine(node.Name()), probeTable, fmt.Sprintf(
			`chain out { type filter hook output priority 0; ip daddr %s tcp dport %d drop; }`, p.Status.PodIP, port))
		if err != nil {
			return nil, "", err
		}
		asking, cancel := context.WithTimeout(ctx, noAnswer)
		defer cancel()
		if c, err := node.Dial(asking, net.JoinHostPort(p.Status.PodIP, strconv.Itoa(port))); err == nil {
			_ = c.Close()
			return nil, "", errors.Join(fmt.Errorf("port %d of pod %q is still reached from its node", port, p.Name), undo(ctx))
		}
		return undo, fmt.Sprintf("the probe of pod %s on %s does not come to its port %d", p.Name, node.Name(), port), nil
	}
	return nil, fmt.Sprintf("no pod of %s on %s has a liveness probe by a port", t.Namespace, node.Name()), nil
}

// probePort is the port of the pod's first liveness probe by HTTP; 0 for none.
func probePort(p *corev1.Pod) int {
	for _, c := range p.Spec.Containers {
		if c.LivenessProbe != nil && c.LivenessProbe.HTTPGet != nil && c.LivenessProbe.HTTPGet.Port.Type == intstr.Int {
			return c.LivenessProbe.HTTPGet.Port.IntValue()
		}
	}
	return 0
}
