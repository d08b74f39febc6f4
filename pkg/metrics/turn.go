// SPDX-License-Identifier: Apache-2.0

package metrics

var (
	refused = counter(SubsystemAgent, "refused_total",
		"Pods that the agent did not save, or ceased to save, because there was not time or disk enough, by what was lacking.", "cause")
	waiting = gauge(SubsystemAgent, "waiting_checkpoints",
		"PodCheckpoints that wait for their turn on this node.")
	reserved = gauge(SubsystemAgent, "reserved_disk_bytes",
		"Disk that is set aside for the dumps under way on this node.")
)

// RefusedCause says what was lacking to save a pod.
type RefusedCause string

// The causes of refusals.
const (
	// RefusedTime: it could not have been durable by its deadline even alone.
	RefusedTime RefusedCause = "time"
	// RefusedGaveWay: nor beside what was worth more.
	RefusedGaveWay RefusedCause = "gave_way"
	// RefusedFreeze: it would have stood still for too long.
	RefusedFreeze RefusedCause = "freeze"
	// RefusedDisk: its dump would not have fitted.
	RefusedDisk RefusedCause = "disk"
)

// CountRefused counts a pod that was not saved.
func CountRefused(cause RefusedCause) { refused.WithLabelValues(string(cause)).Inc() }

// SetWaiting records how many PodCheckpoints wait.
func SetWaiting(n int) { waiting.WithLabelValues().Set(float64(n)) }

// SetReserved records how much disk is set aside.
func SetReserved(bytes int64) { reserved.WithLabelValues().Set(float64(bytes)) }
