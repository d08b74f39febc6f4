// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

var (
	selfTests = counter(SubsystemAgent, "self_tests_total",
		"Self-tests of a restore method on this node.", "method", "result")
	selfTestPassed = gauge(SubsystemAgent, "self_test_passed_timestamp_seconds",
		"When the restore method last passed its self-test, in seconds since 1970; 0 when its last self-test failed.", "method")
	thaws = counter(SubsystemAgent, "thaws_total",
		"Pods that were thawed on this node, by the cause.", "cause")
	halts = counter(SubsystemAgent, "halts_total",
		"Pods that still ran on this node although they were taken to have gone with it, and were frozen for good.")
	strays = counter(SubsystemAgent, "strays_total",
		"Containers that the runtime restored after their start had been given up, and that were killed on this node.")
	notices = counter(SubsystemAgent, "notices_total",
		"Ends of pods that the agent saw coming on its node, by the cause.", "cause")
	prefetches = counter(SubsystemAgent, "prefetches_total",
		"Pods that are restored on this node, by what came of fetching their checkpoints ahead of the kubelet.", "result")
	prefetchedBytes = counter(SubsystemAgent, "prefetched_bytes_total",
		"Bytes of checkpoints that were fetched ahead of the kubelet.")
	agentErrors = counter(SubsystemAgent, "errors_total",
		"Failed steps of the agent, by the step.", "step")
)

// ShowAgent has what an agent counts without labels be there from its start, as 0: what alerts on an increase needs the sample before it.
func ShowAgent() {
	for _, c := range []*prometheus.CounterVec{halts, strays, prefetchedBytes} {
		c.WithLabelValues()
	}
}

// CountSelfTest counts a self-test of a restore method that ended at now.
func CountSelfTest(method string, passed bool, now time.Time) {
	if !passed {
		selfTests.WithLabelValues(method, "failed").Inc()
		selfTestPassed.WithLabelValues(method).Set(0)
		return
	}
	selfTests.WithLabelValues(method, "passed").Inc()
	selfTestPassed.WithLabelValues(method).Set(float64(now.Unix()))
}

// ThawCause says why a pod was thawed.
type ThawCause string

// The causes of thaws.
const (
	// ThawFailed: the checkpoint failed.
	ThawFailed ThawCause = "failed"
	// ThawReleased: nobody deleted the pod while the fence stood, or it stood still for too long before.
	ThawReleased ThawCause = "released"
	// ThawSaved: the pod was dumped, and goes on while it is pushed.
	ThawSaved ThawCause = "saved"
	// ThawOrphaned: the pod was frozen without a PodCheckpoint that is under way.
	ThawOrphaned ThawCause = "orphaned"
)

// CountThaw counts a pod that was thawed.
func CountThaw(cause ThawCause) {
	thaws.WithLabelValues(string(cause)).Inc()
}

// CountHalt counts a pod that was frozen for good because its memory goes on elsewhere.
func CountHalt() {
	halts.WithLabelValues().Inc()
}

// CountStray counts a restored container that ran with nobody to stop it, and was killed.
func CountStray() {
	strays.WithLabelValues().Inc()
}

// CountNotice counts that the agent announced an end of pods.
func CountNotice(cause v1alpha1.NoticeCause) {
	notices.WithLabelValues(string(cause)).Inc()
}

// PrefetchResult says what came of fetching a pod's checkpoints ahead of the kubelet.
type PrefetchResult string

// The results of prefetches.
const (
	// PrefetchWhole: all of the checkpoints was on the node before the kubelet came to them.
	PrefetchWhole PrefetchResult = "whole"
	// PrefetchHandedOver: a part was, and the kubelet's pull went on from there.
	PrefetchHandedOver PrefetchResult = "handed_over"
	// PrefetchNeedless: the base images were there, so that the kubelet came to the checkpoints at once.
	PrefetchNeedless PrefetchResult = "needless"
	// PrefetchFailed: the registry or the runtime did not answer as it should; the kubelet pulls what is missing.
	PrefetchFailed PrefetchResult = "failed"
)

// CountPrefetch counts a pod that was fetched for, and the bytes that came.
func CountPrefetch(result PrefetchResult, bytes int64) {
	prefetches.WithLabelValues(string(result)).Inc()
	prefetchedBytes.WithLabelValues().Add(float64(bytes))
}

// AgentStep is a step of the agent that can fail.
type AgentStep string

// The steps of the agent.
const (
	StepFreeze  AgentStep = "freeze"
	StepDump    AgentStep = "dump"
	StepExport  AgentStep = "export"
	StepThaw    AgentStep = "thaw"
	StepClean   AgentStep = "clean"
	StepProfile AgentStep = "profile"
)

// CountAgentError counts a failed step of the agent.
func CountAgentError(step AgentStep) {
	agentErrors.WithLabelValues(string(step)).Inc()
}
