// SPDX-License-Identifier: Apache-2.0

// Package rewind keeps restored containers from being restored again: once one runs, the name of its checkpoint image is made to stand
// for its base image on this node, so that the kubelet starts it cold when it crashes.
package rewind

import (
	"context"
	"fmt"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// The annotations that containerd writes on a container that it restored (containerd internal/cri/server, CRImportCheckpoint).
const (
	annotationRestored = "restored"
	annotationImage    = "checkpointImage"
)

// Topics selects the events after which a restored container may run.
const Topics = `topic=="/tasks/start"`

const (
	// settle is how long after an event the CRI may still take to call the container running.
	settle = 100 * time.Millisecond
	// again is the pause before a second look, in case that it took longer, and before the event stream is opened again.
	again = 2 * time.Second
)

// Containers lists the containers of the node.
type Containers interface {
	ListContainers(ctx context.Context, in *runtimeapi.ListContainersRequest) ([]*runtimeapi.Container, error)
}

// Images changes what names stand for.
type Images interface {
	// Repoint makes the name of a checkpoint image stand for the base image of that ID; false when it did already.
	Repoint(ctx context.Context, name, baseID string) (bool, error)
}

// Rewinder repoints the images of restored containers.
type Rewinder struct {
	// Prefix is where checkpoint images of Cryopod are: registry/path. Others' are left alone.
	Prefix string
	// Containers and Images are the runtime's.
	Containers Containers
	Images     Images
	// Watch calls changed at its beginning and whenever a container was started, until the stream ends.
	Watch func(ctx context.Context, changed func()) error
	// Clock is the time.
	Clock clock.Clock
}

// Start repoints until ctx ends.
func (r *Rewinder) Start(ctx context.Context) error {
	started := make(chan struct{}, 1)
	nudge := func() {
		select {
		case started <- struct{}{}:
		default:
		}
	}
	go r.work(ctx, started)
	for ctx.Err() == nil {
		err := r.Watch(ctx, nudge)
		log.FromContext(ctx).V(1).Info("The stream of task events ended; opening it again", "error", err)
		r.pause(ctx, again)
	}
	return nil
}

func (r *Rewinder) work(ctx context.Context, started <-chan struct{}) {
	logger := log.FromContext(ctx).WithName("rewind")
	for {
		select {
		case <-ctx.Done():
			return
		case <-started:
		}
		for _, pause := range []time.Duration{settle, again} {
			r.pause(ctx, pause)
			if err := r.Sweep(ctx); err != nil && ctx.Err() == nil {
				logger.Error(err, "Repointing checkpoint images")
			}
		}
	}
}

func (r *Rewinder) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-r.Clock.After(d):
	}
}

// Sweep looks at every running container once.
func (r *Rewinder) Sweep(ctx context.Context) error {
	logger := log.FromContext(ctx).WithName("rewind")
	running := &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}
	all, err := r.Containers.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{State: running}})
	if err != nil {
		return fmt.Errorf("listing containers: %w", err)
	}
	for _, c := range all {
		name := c.GetAnnotations()[annotationImage]
		if c.GetAnnotations()[annotationRestored] != "true" || !strings.HasPrefix(name, r.Prefix+"/") {
			continue
		}
		done, err := r.Images.Repoint(ctx, name, c.GetImageRef())
		if err != nil {
			return err
		}
		if done {
			logger.Info("A restored container runs; from now on its image's name stands for its base image", "container", c.GetId(), "image", name)
		}
	}
	return nil
}
