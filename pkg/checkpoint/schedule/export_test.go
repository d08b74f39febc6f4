// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// ToPods is toPods.
func (r *Reconciler) ToPods(ctx context.Context, node client.Object) []reconcile.Request {
	return r.toPods(ctx, node)
}
