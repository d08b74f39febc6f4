// SPDX-License-Identifier: Apache-2.0

// Package locality is the kube-scheduler plugin CheckpointLocality: it keeps a pod that restores from a checkpoint off nodes
// that cannot restore it, and prefers nodes that have the images which the pod needs.
//
// The plugin only ever adds to what the scheduler decides for opted-in pods. Every other pod is neither filtered nor scored nor
// changed in its signature. Where the plugin's own data is missing (the CRDs are gone, the cache is not filled yet) it steps
// aside: a pod that lands on a node which cannot restore it starts cold, and that is better than a pod that waits.
package locality
