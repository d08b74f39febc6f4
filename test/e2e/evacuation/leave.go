// SPDX-License-Identifier: Apache-2.0

package evacuation

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/test/e2e/bed"
)

// ByTaint puts the termination taint on the node. All else is Cryopod's.
func ByTaint(ctx context.Context, d Departure) error {
	return d.Bed.Kubectl.Taint(ctx, d.Node, Taint+"=:"+string(corev1.TaintEffectNoSchedule))
}

// OneByOne evicts the pods in their order until the deadline, each when the former one is durable and gone: what a script around
// kubectl does, or a controller that takes one pod at a time.
func OneByOne(ctx context.Context, d Departure) error {
	if err := d.Bed.Kubectl.Cordon(ctx, d.Node); err != nil {
		return err
	}
	for _, pod := range d.Pods {
		err := bed.Until(ctx, func(ctx context.Context) error {
			err := d.Bed.Client.SubResource("eviction").Create(ctx, pod, &policyv1.Eviction{
				ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
			})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("evicting pod %q: %w", pod.Name, err)
		}
	}
	return nil
}
