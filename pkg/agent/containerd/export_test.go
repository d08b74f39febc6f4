// SPDX-License-Identifier: Apache-2.0

package containerd

import "context"

// Dumped is dumped.
var Dumped = dumped

// WithAuthor is withAuthor.
var WithAuthor = withAuthor

// KillInShim ends a task that only its pod's shim knows.
func (c *Client) KillInShim(ctx context.Context, sandbox, id string) (killed, over bool, err error) {
	return c.killInShim(ctx, sandbox, id)
}
