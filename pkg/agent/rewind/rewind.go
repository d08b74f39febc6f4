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

	"github.com/cryopod/cryopod/pkg/agent/stream"
)

// The annotations that containerd writes on a container that it restored (containerd internal/cri/server, CRImportCheckpoint).
const (
	annotationRestored = "restored"
	annotationImage    = "checkpointImage"
)

// Topics select the events after which a restored container may run: one that is created may be on its way, and nothing tells of the start of one
// whose asker has gone.
var Topics = []string{`topic=="/containers/create"`, `topic=="/tasks/start"`}

const (
	// glance is the pause between two looks while a restore may be under way.
	glance = 100 * time.Millisecond
	// alert is how long after an event that is taken for granted: the CRI is told later than containerd's events.
	alert = 3 * time.Second
	// weary is how long after an event a container that has been created and not started is looked for that often.
	weary = 5 * time.Minute
	// again is the pause after that, and after a failure.
	again = 2 * time.Second
	// endPatience bounds how long a restore that nobody waits for is waited for, to end it: the runtime is deaf until it is done.
	endPatience = 5 * time.Minute
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
	// KillStray ends the processes of a container that is called exited, and forgets them. It waits for a restore that is under way. killed is false
	// when there were none, over when there may yet be some. The sandbox is the pod's.
	KillStray(ctx context.Context, sandbox, id string) (killed, over bool, err error)
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

	strays strays
}

// Start repoints until ctx ends.
func (r *Rewinder) Start(ctx context.Context) error {
	started := make(chan struct{}, 1)
	go r.work(ctx, started)
	stream.Follow(ctx, r.Clock, "starts of tasks", r.Watch, started)
	return nil
}

// work looks at the containers after each event, and goes on while one of them may come to run.
func (r *Rewinder) work(ctx context.Context, started <-chan struct{}) {
	logger := log.FromContext(ctx).WithName("rewind")
	var event time.Time
	var next <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-started:
			event = r.Clock.Now()
		case <-next:
		}
		settled, err := r.Sweep(ctx)
		if err != nil && ctx.Err() == nil {
			logger.Error(err, "Looking after restored containers")
		}
		next = nil
		if pause, more := nextLook(settled, err != nil, r.Clock.Since(event)); more {
			next = r.Clock.After(pause)
		}
	}
}

// nextLook tells when to look again, if at all, so long after the last event.
func nextLook(settled, failed bool, since time.Duration) (pause time.Duration, more bool) {
	switch {
	case settled && !failed && since >= alert:
		return 0, false
	case failed || since >= weary:
		return again, true
	default:
		return glance, true
	}
}

func (r *Rewinder) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-r.Clock.After(d):
	}
}

// Sweep looks at every restored container that was started, once. settled is false while one of them may come to run.
func (r *Rewinder) Sweep(ctx context.Context) (settled bool, err error) {
	all, err := r.Containers.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return false, fmt.Errorf("listing containers: %w", err)
	}
	var failed []error
	settled = true
	r.strays.forget(all)
	for _, c := range all {
		if c.GetAnnotations()[annotationRestored] != "true" || !strings.HasPrefix(c.GetAnnotations()[annotationImage], r.Prefix+"/") {
			continue
		}
		switch c.GetState() {
		case runtimeapi.ContainerState_CONTAINER_EXITED:
			settled = r.ended(ctx, c) && settled
			failed = append(failed, r.repoint(ctx, c))
		case runtimeapi.ContainerState_CONTAINER_RUNNING:
			failed = append(failed, r.repoint(ctx, c))
		default: // created: its restore is to come, or under way
			settled = false
		}
	}
	return settled, errors.Join(failed...)
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
