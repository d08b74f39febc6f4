// SPDX-License-Identifier: Apache-2.0

package metrics

var (
	removedImages = counter(SubsystemRetention, "images_total",
		"Checkpoint images deleted from the registry, by the rule that they fell under.", "rule")
	removedBytes = counter(SubsystemRetention, "bytes_total",
		"Size of the checkpoint images deleted from the registry, by the rule that they fell under.", "rule")
	removedCheckpoints = counter(SubsystemRetention, "checkpoints_total",
		"PodCheckpoints deleted, by the rule that they fell under.", "rule")
	retentionFailures = counter(SubsystemRetention, "failures_total",
		"Images that could not be deleted from the registry, or lists that it did not give, by the cause.", "cause")
)

// RetentionRule says why an image or a PodCheckpoint was deleted.
type RetentionRule string

// The rules of retention.
const (
	// RuleOver: the checkpoint is over, and nobody can need its images.
	RuleOver RetentionRule = "over"
	// RuleCount: its owner has enough that are younger.
	RuleCount RetentionRule = "count"
	// RuleAge: it has been over for long enough.
	RuleAge RetentionRule = "age"
	// RuleBytes: the namespace's images were too large together.
	RuleBytes RetentionRule = "bytes"
	// RuleOrphan: no PodCheckpoint names the image.
	RuleOrphan RetentionRule = "orphan"
)

// CountRemovedImages counts images deleted from the registry, and their size.
func CountRemovedImages(rule RetentionRule, images int, bytes int64) {
	removedImages.WithLabelValues(string(rule)).Add(float64(max(images, 0)))
	removedBytes.WithLabelValues(string(rule)).Add(float64(max(bytes, 0)))
}

// CountRemovedCheckpoint counts a PodCheckpoint that was deleted.
func CountRemovedCheckpoint(rule RetentionRule) {
	removedCheckpoints.WithLabelValues(string(rule)).Inc()
}

// RetentionFailure says why an image could not be deleted.
type RetentionFailure string

// The causes of failures.
const (
	// RetentionAway: the registry does not answer, or not in order; it is tried again.
	RetentionAway RetentionFailure = "away"
	// RetentionUnsupported: the registry does not delete images.
	RetentionUnsupported RetentionFailure = "unsupported"
	// RetentionDenied: the credentials do not allow to delete images.
	RetentionDenied RetentionFailure = "denied"
	// RetentionForeign: the image is not where the webhook's --registry is.
	RetentionForeign RetentionFailure = "foreign"
)

// CountRetentionFailure counts an image that could not be deleted, or a list that could not be had.
func CountRetentionFailure(cause RetentionFailure) {
	retentionFailures.WithLabelValues(string(cause)).Inc()
}
