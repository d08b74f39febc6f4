// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"cmp"
	"time"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

var (
	admitted = counter(SubsystemAdmission, "pods_total",
		"Opted-in pods seen at CREATE, by what was done to them.", "outcome")
	evictions = counter(SubsystemEviction, "decisions_total",
		"Evictions seen, by the answer to them.", "decision")
	deletions = counter(SubsystemEviction, "deletions_total",
		"Deletions of running opted-in pods seen, by the way to go that they are (none for those that no pod is saved for) and the answer.",
		"trigger", "decision")
	holds = histogram(SubsystemEviction, "hold_seconds",
		"How long one eviction or deletion was held before its answer.", SecondsBuckets())
	held = gauge(SubsystemEviction, "held_requests",
		"Evictions and deletions that are being held now.")
)

// PodOutcome says what admission did to an opted-in pod.
type PodOutcome string

// The outcomes at CREATE of a pod.
const (
	// PodUnchanged: nothing had to be changed.
	PodUnchanged PodOutcome = "unchanged"
	// PodPrepared: the pod was made checkpointable.
	PodPrepared PodOutcome = "prepared"
	// PodRestoring: the pod starts from a checkpoint.
	PodRestoring PodOutcome = "restoring"
	// PodErrored: the request failed; the API server admits the pod as it came.
	PodErrored PodOutcome = "errored"
)

// CountPod counts what admission did to an opted-in pod.
func CountPod(outcome PodOutcome) {
	admitted.WithLabelValues(string(outcome)).Inc()
}

// EvictionDecision is the answer to an eviction or a deletion.
type EvictionDecision string

// The answers to evictions and deletions.
const (
	// EvictionUntouched: not a pod of ours, or one that can't be checkpointed.
	EvictionUntouched EvictionDecision = "untouched"
	// EvictionDryRun: nothing may happen.
	EvictionDryRun EvictionDecision = "dry_run"
	// EvictionBudget: a PodDisruptionBudget refuses it anyway.
	EvictionBudget EvictionDecision = "budget"
	// EvictionPutOff: denied with 429, to come again.
	EvictionPutOff EvictionDecision = "put_off"
	// EvictionSaved: allowed with the checkpoint ready.
	EvictionSaved EvictionDecision = "saved"
	// EvictionCold: allowed without a checkpoint, because it failed.
	EvictionCold EvictionDecision = "cold"
	// EvictionLate: allowed without a checkpoint, because the deadline is over.
	EvictionLate EvictionDecision = "late"
	// EvictionErrored: allowed because deciding failed.
	EvictionErrored EvictionDecision = "errored"
)

// CountEviction counts an eviction's answer.
func CountEviction(decision EvictionDecision) {
	evictions.WithLabelValues(string(decision)).Inc()
}

// CountDeletion counts a deletion's answer. An empty trigger is a deletion that no pod is saved for.
func CountDeletion(trigger v1alpha1.Trigger, decision EvictionDecision) {
	deletions.WithLabelValues(string(cmp.Or(trigger, "none")), string(decision)).Inc()
}

// HoldEviction counts a request as held until the returned function is called, once, with how long it was held.
func HoldEviction() (done func(d time.Duration)) {
	g := held.WithLabelValues()
	g.Inc()
	return func(d time.Duration) {
		g.Dec()
		holds.WithLabelValues().Observe(seconds(d))
	}
}
