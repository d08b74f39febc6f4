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

// How a pod starts, as the metrics count it.
const (
	kindRestore = "restore"
	kindFresh   = "fresh"
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
		Help: "Nodes refused to opted-in pods, by the reason: no_profile, method_unverified, arch, runtime, cgroup_version, kernel, " +
			"criu_version or cpu_features where they can't restore one; ending where their end is announced, cordoned where nothing is restored.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"reason"})

	holds = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: "cryopod_scheduler_holds_total",
		Help: "Restoring pods that were kept from being tried, by the reason: checkpoint_unknown, or no_node_fits after one was tried in vain. " +
			"Each is tried again when that changes, or its time is over.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"reason"})

	predictedStart = startSeconds("cryopod_scheduler_predicted_start_seconds", "Predicted time from placing an opted-in pod until all its containers run")
	actualStart    = startSeconds("cryopod_scheduler_actual_start_seconds", "Time that it took from placing an opted-in pod until all its containers ran")

	registerOnce sync.Once
)

// startSeconds is a histogram from a quarter of a second to half an hour. It counts pods that came to run only, so that predictions and facts are
// about the same ones.
func startSeconds(name, help string) *metrics.HistogramVec {
	return metrics.NewHistogramVec(&metrics.HistogramOpts{
		Name: name, Help: help + ", by kind: restore or fresh. Pods that came to run only.",
		Buckets: metrics.ExponentialBuckets(0.25, 2, 14), StabilityLevel: metrics.ALPHA,
	}, []string{"kind"})
}

// registerMetrics adds the plugin's metrics to the registry that kube-scheduler serves on /metrics. Every profile that has the
// plugin counts into the same ones.
func registerMetrics() {
	registerOnce.Do(func() {
		legacyregistry.MustRegister(decisions, refusals, holds, predictedStart, actualStart)
	})
}
