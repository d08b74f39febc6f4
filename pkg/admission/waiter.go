// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"sync"

	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Waiter wakes held requests when the object that they wait for changes. It is an event handler for an informer. The zero
// value is ready for use, from many goroutines at once.
type Waiter struct {
	mu      sync.Mutex
	waiting map[client.ObjectKey]map[chan struct{}]struct{}
}

var _ cache.ResourceEventHandler = (*Waiter)(nil)

// Watch gives a channel that receives after each change of the object, several changes in a row perhaps as one. Stop has to be
// called when it is of no more use.
func (w *Waiter) Watch(key client.ObjectKey) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = map[client.ObjectKey]map[chan struct{}]struct{}{}
	}
	if w.waiting[key] == nil {
		w.waiting[key] = map[chan struct{}]struct{}{}
	}
	w.waiting[key][c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.waiting[key], c)
		if len(w.waiting[key]) == 0 {
			delete(w.waiting, key)
		}
	}
}

// Len is the number of objects that are being waited for.
func (w *Waiter) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting)
}

// OnAdd wakes those that wait for the object.
func (w *Waiter) OnAdd(obj any, _ bool) { w.notify(obj) }

// OnUpdate wakes those that wait for the object.
func (w *Waiter) OnUpdate(_, obj any) { w.notify(obj) }

// OnDelete wakes those that wait for the object.
func (w *Waiter) OnDelete(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	w.notify(obj)
}

func (w *Waiter) notify(obj any) {
	o, ok := obj.(client.Object)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.waiting[client.ObjectKeyFromObject(o)] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
