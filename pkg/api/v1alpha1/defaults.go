// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "time"

const (
	// DefaultDeadline is how long an eviction may be put off when AnnotationDeadline is not set.
	DefaultDeadline = 2 * time.Minute

	// DefaultMaxFreeze is how long a pod may stand still before its checkpoint is durable when AnnotationMaxFreeze is not
	// set.
	DefaultMaxFreeze = time.Minute

	// DefaultFence is how long the agent keeps the source frozen after Ready while nobody deletes the pod.
	DefaultFence = 30 * time.Second

	// MinInterval is the shortest AnnotationInterval that counts.
	MinInterval = time.Minute

	// DefaultOn is what a pod is saved for when AnnotationOn is not set.
	DefaultOn = string(TriggerEviction) + "," + string(TriggerTermination) + "," + string(TriggerPreemption)

	// DefaultValue is a pod's value when AnnotationValue is not set.
	DefaultValue = 100

	// MaxValue is the highest value of AnnotationValue.
	MaxValue = 1_000_000
)
