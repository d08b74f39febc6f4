// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

var (
	checkpoints = counter(SubsystemCheckpoint, "checkpoints_total",
		"PodCheckpoints by the reason for them and what became of them.", "reason", "outcome")
	phases = histogram(SubsystemCheckpoint, "phase_seconds",
		"How long a PodCheckpoint stayed in a phase.", SecondsBuckets(), "phase")
	frozen = histogram(SubsystemCheckpoint, "frozen_seconds",
		"How long a pod's processes stood still until their checkpoint was durable, or until they were thawed.", SecondsBuckets())
	exported = counter(SubsystemCheckpoint, "exported_bytes_total",
		"Bytes read from the kubelet's archives and bytes sent to the registry.", "kind")
	exportSizes = histogram(SubsystemCheckpoint, "archive_bytes",
		"Size of the kubelet's checkpoint archive of one container.", BytesBuckets())
)

// Outcome says what became of a PodCheckpoint.
type Outcome string

// The outcomes. Ready is counted besides the final one that follows it.
const (
	OutcomeStarted  Outcome = "started"
	OutcomeReady    Outcome = "ready"
	OutcomeFailed   Outcome = "failed"
	OutcomeReleased Outcome = "released"
	OutcomeExpired  Outcome = "expired"
	// OutcomeSourceLost: the pod went with its node, and the checkpoint, made on a schedule, may be claimed.
	OutcomeSourceLost Outcome = "source_lost"
)

// CountCheckpoint counts that a PodCheckpoint made for reason reached an outcome. Called by whoever wrote it.
func CountCheckpoint(reason v1alpha1.Reason, outcome Outcome) {
	checkpoints.WithLabelValues(string(reason), string(outcome)).Inc()
}

// ObservePhase records how long a PodCheckpoint was in a phase. Called by whoever wrote the next one.
func ObservePhase(phase v1alpha1.Phase, d time.Duration) {
	phases.WithLabelValues(string(phase)).Observe(seconds(d))
}

// ObserveFrozen records how long a pod's processes stood still until Ready, or until they were thawed.
func ObserveFrozen(d time.Duration) {
	frozen.WithLabelValues().Observe(seconds(d))
}

// ObserveExport records one container's export: the size of the kubelet's archive and what was sent to the registry.
func ObserveExport(archiveBytes, pushedBytes int64) {
	exported.WithLabelValues("archive").Add(float64(max(archiveBytes, 0)))
	exported.WithLabelValues("pushed").Add(float64(max(pushedBytes, 0)))
	exportSizes.WithLabelValues().Observe(float64(max(archiveBytes, 0)))
}
