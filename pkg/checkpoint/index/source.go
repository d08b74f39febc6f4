// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Source is the pod that the PodCheckpoint saves, nil when it exists no more. It is read live where the cache does not have it: that has
// only pods that were opted in when they were made.
func Source(ctx context.Context, cached, live client.Reader, pc *v1alpha1.PodCheckpoint) (*corev1.Pod, error) {
	key := client.ObjectKey{Namespace: pc.Namespace, Name: pc.Spec.PodName}
	for _, reader := range []client.Reader{cached, live} {
		pod := &corev1.Pod{}
		err := reader.Get(ctx, key, pod)
		switch {
		case err == nil && pod.UID == pc.Spec.PodUID:
			return pod, nil
		case err != nil && !apierrors.IsNotFound(err):
			return nil, fmt.Errorf("reading pod %q: %w", key.Name, err)
		}
	}
	return nil, nil
}
