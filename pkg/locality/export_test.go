// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// NewTimed is New with another clock and another bound of its wait for data.
func NewTimed(clk clock.WithTicker, startup time.Duration) func(context.Context, runtime.Object, fwk.Handle) (fwk.Plugin, error) {
	return func(ctx context.Context, obj runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
		return newPlugin(ctx, obj, handle, timing{clock: clk, startup: startup})
	}
}

// Present is present for images that profiles know, on the node of one profile (nil: it has none) that reports images itself.
func Present(needed []v1alpha1.NodeImage, profile *v1alpha1.NodeProfile, reported ...string) int64 {
	var images []image
	for _, i := range needed {
		r := reference(i.Name)
		r.bytes, r.layers = i.Bytes, parseLayers(i.Layers)
		images = append(images, r)
	}
	states := map[string]*fwk.ImageStateSummary{}
	for _, name := range reported {
		states[name] = &fwk.ImageStateSummary{}
	}
	if profile == nil {
		return present(images, nil, states)
	}
	return present(images, newNode(profile), states)
}

// Fit is fit's message, empty when the node of that profile (nil: it has none) can restore the checkpoint.
func Fit(profile *v1alpha1.NodeProfile, want v1alpha1.Requirements, cpu CPUFeaturePolicy) string {
	var n *node
	if profile != nil {
		n = newNode(profile)
	}
	if r := fit(n, v1alpha1.RestoreMethodImage, want, cpu); r != nil {
		return r.message
	}
	return ""
}
