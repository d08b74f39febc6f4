// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/e2e/object"
)

// Reserve keeps a node for the pods of object.Reserved.
func (b *Bed) Reserve(ctx context.Context, node string) error {
	return b.Kubectl.Taint(ctx, node, object.TaintReserved+"="+node+":"+string(corev1.TaintEffectNoSchedule))
}

// Untaint takes the taints of a key off the node. It is no error when there is none.
func (b *Bed) Untaint(ctx context.Context, node, key string) error {
	err := b.Kubectl.Taint(ctx, node, key+"-")
	if err != nil && strings.Contains(err.Error(), "not found") {
		return nil
	}
	return err
}

// Ready tells whether the API server sees the node ready.
func (b *Bed) Ready(ctx context.Context, node string) (bool, error) {
	var n corev1.Node
	if err := b.Client.Get(ctx, client.ObjectKey{Name: node}, &n); err != nil {
		return false, fmt.Errorf("reading node %q: %w", node, err)
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue, nil
		}
	}
	return false, nil
}

// Revive starts a reserved node that was killed and returns when it is ready. A Node that was deleted is made anew before its
// kubelet does so, that no pod which the node is not reserved for comes to it in between.
func (b *Bed) Revive(ctx context.Context, name string) error {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{
			{Key: object.TaintReserved, Value: name, Effect: corev1.TaintEffectNoSchedule},
		}},
	}
	if err := b.Client.Create(ctx, node); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making node %q: %w", name, err)
	}
	if err := b.Untaint(ctx, name, corev1.TaintNodeOutOfService); err != nil {
		return err
	}
	machine, err := b.Cluster.Node(name)
	if err != nil {
		return err
	}
	return machine.Start(ctx)
}
