// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"

	"github.com/containerd/containerd/v2/client"
)

// Dumped is dumped.
var Dumped = dumped

// WithAuthor is withAuthor.
var WithAuthor = withAuthor

// KillInShim ends a task that only its pod's shim knows.
func (c *Client) KillInShim(ctx context.Context, sandbox, id string) (killed, over bool, err error) {
	return c.killInShim(ctx, sandbox, id)
}

// WithServices returns a client of these services of containerd's.
func WithServices(s ...client.ServicesOpt) (*Client, error) {
	c, err := client.New("", client.WithServices(s...), client.WithDefaultNamespace(Namespace))
	return &Client{client: c}, err
}
