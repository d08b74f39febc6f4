// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/utils/clock"
)

// Feed is where the plugin has the time and the objects from that it otherwise gets from the machine and the API server: a simulation has its own.
type Feed struct {
	Clock clock.WithTicker
	// NodeProfiles and PodCheckpoints tell of objects of those kinds. The plugin runs them.
	NodeProfiles, PodCheckpoints cache.SharedIndexInformer
}

// NewFed returns New for a scheduler that is fed.
func NewFed(f Feed) func(context.Context, runtime.Object, fwk.Handle) (fwk.Plugin, error) {
	return func(ctx context.Context, obj runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
		return newPlugin(ctx, obj, handle, timing{
			clock: f.Clock, startup: startupWait,
			data: func(*rest.Config) (*data, error) { return dataOf(f.NodeProfiles, f.PodCheckpoints) },
		})
	}
}
