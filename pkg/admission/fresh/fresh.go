// SPDX-License-Identifier: Apache-2.0

// Package fresh lets requests share reads without knowing less for it.
package fresh

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Patience bounds one read. No request waits for longer, and each stops waiting when it ends itself.
const Patience = 30 * time.Second

// Reader reads things that many requests ask for at the same time: all pods of a node that is drained need that node. A request gets the answer
// of a read that began after it asked, so that it knows at least what it would know from a read of its own; those that ask while one is under way
// share the next. At any time, one read for each key is under way at most. It may be used from many goroutines at once.
type Reader[K comparable, V any] struct {
	read func(context.Context, K) (V, error)

	mu sync.Mutex
	// keys are those that are being read, each with the read that comes after, nil when nobody has asked for it.
	keys map[K]*result[V]
}

// result is that of one read. It may be looked at once it is done.
type result[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// NewReader makes a reader of what the function reads.
func NewReader[K comparable, V any](read func(context.Context, K) (V, error)) *Reader[K, V] {
	return &Reader[K, V]{read: read, keys: map[K]*result[V]{}}
}

// Get reads what the key stands for. Others have the same value, so that it must not be changed. The error is that of the read, or the
// context's when that ends before.
func (r *Reader[K, V]) Get(ctx context.Context, key K) (V, error) {
	next := r.ask(ctx, key)
	select {
	case <-next.done:
		return next.value, next.err
	case <-ctx.Done():
		var none V
		return none, fmt.Errorf("waiting for a shared read: %w", ctx.Err())
	}
}

// ask gives the read of the key that begins next.
func (r *Reader[K, V]) ask(ctx context.Context, key K) *result[V] {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, reading := r.keys[key]
	if next == nil {
		next = &result[V]{done: make(chan struct{})}
		r.keys[key] = next
	}
	if !reading {
		// Who asks first may be the first to give up, too.
		go r.serve(context.WithoutCancel(ctx), key)
	}
	return next
}

// serve makes one read after the other until nobody asks any more.
func (r *Reader[K, V]) serve(ctx context.Context, key K) {
	for next := r.take(key); next != nil; next = r.take(key) {
		reading, cancel := context.WithTimeout(ctx, Patience)
		next.value, next.err = r.read(reading, key)
		cancel()
		close(next.done)
	}
}

// take begins the next read of the key: who asks from now on gets the one after it. Nil when nobody has asked.
func (r *Reader[K, V]) take(key K) *result[V] {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.keys[key]
	if next == nil {
		delete(r.keys, key)
	} else {
		r.keys[key] = nil
	}
	return next
}
