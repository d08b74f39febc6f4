// SPDX-License-Identifier: Apache-2.0

// Package timed is kube-scheduler with a stopwatch on each call of CheckpointLocality and of ImageLocality.
//
// The scheduler's own histogram, scheduler_plugin_execution_duration_seconds, can't tell what a plugin takes in all: it is of one cycle in ten,
// and of such a cycle it keeps the first thousand calls of a second and drops the others, Score's first of all.
package timed
