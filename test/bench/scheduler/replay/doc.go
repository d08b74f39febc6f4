// SPDX-License-Identifier: Apache-2.0

// Package replay plays a day of a cluster in virtual time: nodes that are interrupted, drained and added, owners that roll out, grow and shrink.
// The pods are placed by the real scheduler, once with the plugin and once without, over the same trace. What nodes pull, how long pods take to run
// and how even the load is are reckoned here, by a model of kubelet and containerd that shares nothing with the plugin's. docs/scheduling.md says what
// is drawn.
package replay
