// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"context"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/agent/stream"
	"github.com/cryopod/cryopod/pkg/imageindex"
)

const (
	// quiet is how long after a change the image store is read: a pull makes several.
	quiet = 2 * time.Second
	// spacing is the pause between two lists at least: many pulls in a row become few writes.
	spacing = 15 * time.Second
	// retry is the pause after a list that failed.
	retry = 2 * time.Second
)

// ImageWatcher reads the node's images when the runtime says that they changed.
type ImageWatcher struct {
	// Watch calls changed at its beginning and after each event, until the stream ends.
	Watch func(ctx context.Context, changed func()) error
	// List returns the images on the node.
	List func(ctx context.Context) ([]imageindex.Image, error)
	// Found takes each list.
	Found func([]imageindex.Image)
	// Clock is the time.
	Clock clock.Clock
}

// Start watches until ctx ends. The first change after a while is listed soon, further ones together.
func (w *ImageWatcher) Start(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	go w.read(ctx, changed)
	stream.Follow(ctx, w.Clock, "images", w.Watch, changed)
	return nil
}

// read lists the images after each burst of changes.
func (w *ImageWatcher) read(ctx context.Context, changed <-chan struct{}) {
	logger := log.FromContext(ctx).WithName("images")
	var calm <-chan time.Time
	var listed time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			if calm == nil {
				calm = w.Clock.After(max(quiet, spacing-w.Clock.Since(listed)))
			}
			continue
		case <-calm:
			calm = nil
		}
		images, err := w.List(ctx)
		if err != nil {
			logger.V(1).Info("Could not list the node's images; trying again", "error", err.Error())
			calm = w.Clock.After(retry)
			continue
		}
		listed = w.Clock.Now()
		w.Found(images)
	}
}
