// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// stream is an informer that tells its handlers of a change at once, in the goroutine that makes it. So nothing is decided on what is about to be
// known, and the same day runs the same way each time.
type stream struct {
	cache.SharedIndexInformer
	transform cache.TransformFunc
	handlers  []cache.ResourceEventHandler
}

func newStream(example runtime.Object) *stream {
	indexers := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
	return &stream{
		SharedIndexInformer: cache.NewSharedIndexInformer(&cache.ListWatch{}, example, 0, indexers),
		transform:           func(o any) (any, error) { return o, nil },
	}
}

// set makes or replaces an object.
func (s *stream) set(o any) error {
	o, err := s.transform(o)
	if err != nil {
		return fmt.Errorf("transforming an object: %w", err)
	}
	before, had, err := s.GetIndexer().Get(o)
	if err != nil {
		return fmt.Errorf("looking an object up: %w", err)
	}
	if err := s.GetIndexer().Update(o); err != nil {
		return fmt.Errorf("storing an object: %w", err)
	}
	for _, h := range s.handlers {
		if had {
			h.OnUpdate(before, o)
		} else {
			h.OnAdd(o, false)
		}
	}
	return nil
}

// remove deletes the object of that key, if there is one.
func (s *stream) remove(namespace, name string) error {
	before, had, err := s.GetIndexer().GetByKey(cache.NewObjectName(namespace, name).String())
	if err != nil || !had {
		return err
	}
	if err := s.GetIndexer().Delete(before); err != nil {
		return fmt.Errorf("deleting an object: %w", err)
	}
	for _, h := range s.handlers {
		h.OnDelete(before)
	}
	return nil
}

// synced is a registration of a handler that has been told everything.
type synced struct {
	cache.ResourceEventHandlerRegistration
}

func (synced) HasSynced() bool { return true }

// AddEventHandler has the handler told of each change from now on.
func (s *stream) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	s.handlers = append(s.handlers, h)
	return synced{}, nil
}

// AddEventHandlerWithOptions is AddEventHandler.
func (s *stream) AddEventHandlerWithOptions(h cache.ResourceEventHandler, _ cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	return s.AddEventHandler(h)
}

// AddEventHandlerWithResyncPeriod is AddEventHandler: nothing is lost that would have to be told again.
func (s *stream) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, _ time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return s.AddEventHandler(h)
}

// SetTransform has objects changed before they are stored.
func (s *stream) SetTransform(t cache.TransformFunc) error {
	s.transform = t
	return nil
}

// HasSynced is true: what there is was told.
func (*stream) HasSynced() bool { return true }

// RunWithContext has nothing to do.
func (*stream) RunWithContext(context.Context) {}

// as has a factory give out the stream as its informer for the example's kind.
func (s *stream) as(f informers.SharedInformerFactory, example runtime.Object) {
	f.InformerFor(example, func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer { return s })
}
