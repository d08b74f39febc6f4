// SPDX-License-Identifier: Apache-2.0

package export

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// identification bounds how long a push waits to know its cluster.
const identification = 2 * time.Second

// Cluster knows which cluster this is. Its method may be called concurrently.
type Cluster struct {
	// Reader reads from the API server.
	Reader client.Reader

	mu  sync.Mutex
	uid string
}

// UID is the UID of the namespace kube-system, which tells clusters apart; empty as long as it can't be read. No checkpoint is given up for
// that: its image is merely never taken for an orphan.
func (c *Cluster) UID(ctx context.Context) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uid != "" {
		return c.uid
	}
	ctx, cancel := context.WithTimeout(ctx, identification)
	defer cancel()
	ns := &corev1.Namespace{}
	if err := c.Reader.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, ns); err != nil {
		log.FromContext(ctx).Error(err, "Pushing an image that does not tell its cluster; retention will not find it when its PodCheckpoint is deleted")
		return ""
	}
	c.uid = string(ns.UID)
	return c.uid
}
