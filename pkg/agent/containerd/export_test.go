// SPDX-License-Identifier: Apache-2.0

package containerd

// Dumped is dumped.
var Dumped = dumped

// WithAuthor is withAuthor.
var WithAuthor = withAuthor
