// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
)

// residueOf is what is left of a run.
func residueOf(ctx context.Context, b *bed.Bed, namespace string) ([]string, error) {
	var all v1alpha1.PodCheckpointList
	if err := b.Client.List(ctx, &all, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var found []string
	for _, c := range all.Items {
		found = append(found, "PodCheckpoint "+c.Name)
	}
	return found, nil
}
