// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// What PreFilter decided for a restoring pod, as the metric counts it. All but the first two let it go anywhere.
const (
	outcomeChecked           = "checked"
	outcomeCheckpointUnknown = "checkpoint_unknown"
	outcomeNoData            = "no_data"
	outcomeCheckpointOver    = "checkpoint_over"
	outcomePatienceOver      = "patience_over"
)

var (
	decisions = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: "cryopod_scheduler_decisions_total",
		Help: "Scheduling cycles of restoring pods, by what was decided about the nodes: checked (each against the checkpoint's requirements), " +
			"checkpoint_unknown (each against the restore method alone); or the pod may go anywhere, because of no_data (NodeProfiles " +
			"cannot be read), checkpoint_over or patience_over.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"outcome"})

	refusals = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: "cryopod_scheduler_refusals_total",
		Help: "Nodes refused to opted-in pods, by the reason: no_profile, method_unverified, arch, runtime, cgroup_version or " +
			"cpu_features where they can't restore one; ending where their end is announced.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"reason"})

	registerOnce sync.Once
)

// registerMetrics adds the plugin's metrics to the registry that kube-scheduler serves on /metrics. Every profile that has the
// plugin counts into the same ones.
func registerMetrics() {
	registerOnce.Do(func() {
		legacyregistry.MustRegister(decisions, refusals)
	})
}
