// SPDX-License-Identifier: Apache-2.0

// Package rewind keeps restored containers from being restored again: once one was started, the name of its checkpoint image is made to
// stand for its base image on this node, so that the kubelet starts it cold when it crashes.
//
// It also ends what containerd has lost. When whoever asked for a restore goes away meanwhile (a kubelet that dies, or whose request times
// out), containerd 2.1 to 2.3 calls the container exited, but runc restores it all the same, and nobody would ever stop it: it would
// live beside the container that the kubelet starts next.
package rewind

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/metrics"
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

// Tasks are the processes of the containers.
type Tasks interface {
	// KillStray ends the processes of a container that is called exited, and forgets them; false when it has none. The sandbox is its pod's.
	KillStray(ctx context.Context, sandbox, id string) (bool, error)
}

// Rewinder repoints the images of restored containers.
type Rewinder struct {
	// Prefix is where checkpoint images of Cryopod are: registry/path. Others' are left alone.
	Prefix string
	// Containers, Images and Tasks are the runtime's.
	Containers Containers
	Images     Images
	Tasks      Tasks
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
		for _, pause := range []time.Duration{0, settle, again} {
			r.pause(ctx, pause)
			if err := r.Sweep(ctx); err != nil && ctx.Err() == nil {
				logger.Error(err, "Looking after restored containers")
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

// Sweep looks at every restored container that was started, once.
func (r *Rewinder) Sweep(ctx context.Context) error {
	all, err := r.Containers.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return fmt.Errorf("listing containers: %w", err)
	}
	var failed []error
	for _, c := range all {
		if c.GetAnnotations()[annotationRestored] != "true" || !strings.HasPrefix(c.GetAnnotations()[annotationImage], r.Prefix+"/") {
			continue
		}
		switch c.GetState() {
		case runtimeapi.ContainerState_CONTAINER_EXITED:
			failed = append(failed, r.killStray(ctx, c), r.repoint(ctx, c))
		case runtimeapi.ContainerState_CONTAINER_RUNNING:
			failed = append(failed, r.repoint(ctx, c))
		default: // created: its restore is to come, or under way
		}
	}
	return errors.Join(failed...)
}

func (r *Rewinder) killStray(ctx context.Context, c *runtimeapi.Container) error {
	killed, err := r.Tasks.KillStray(ctx, c.GetPodSandboxId(), c.GetId())
	if err != nil {
		return fmt.Errorf("ending what runs of container %q, which the runtime calls exited: %w", c.GetId(), err)
	}
	if killed {
		metrics.CountStray()
		log.FromContext(ctx).WithName("rewind").Info("A container was restored after its start had been given up, and ran with nobody to stop it; killed",
			"container", c.GetId(), "image", c.GetAnnotations()[annotationImage])
	}
	return nil
}

func (r *Rewinder) repoint(ctx context.Context, c *runtimeapi.Container) error {
	name := c.GetAnnotations()[annotationImage]
	done, err := r.Images.Repoint(ctx, name, c.GetImageRef())
	if done {
		log.FromContext(ctx).WithName("rewind").Info("A restored container was started; from now on its image's name stands for its base image",
			"container", c.GetId(), "image", name)
	}
	return err
}
