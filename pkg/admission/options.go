// SPDX-License-Identifier: Apache-2.0

// Package admission answers the API server's calls about pods and evictions: it opts pods in, lets replacements start from
// checkpoints, and puts evictions and deletions off until the pod is saved. The handlers gather what the decisions need and carry them out;
// the decisions themselves are pure.
package admission

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/termination"
)

// The defaults of Options.
const (
	// DefaultHold stays below the 30 s that the API server gives a webhook at most.
	DefaultHold          = 20 * time.Second
	DefaultMaxHolds      = 64
	DefaultPickupTimeout = 10 * time.Second
	DefaultMaxAttempts   = 3
	// DefaultPreemptionHold is for schedulers that delete beside their scheduling, as those of Kubernetes 1.33 and later do.
	DefaultPreemptionHold = DefaultHold
)

// Options bound what the webhooks do. The zero value of each field means its default.
type Options struct {
	// Hold is how long one request that a pod go is held while a checkpoint is being made, before it is answered with 429.
	Hold time.Duration
	// PreemptionHold is that for the deletions of schedulers. The preemptor waits that long; where the scheduler deletes within its
	// scheduling cycle (before Kubernetes 1.33, or with the feature SchedulerAsyncPreemption off) all other pods wait too.
	PreemptionHold time.Duration
	// MaxHolds is how many requests one replica holds at a time; further ones get their 429 at once. A held request occupies a
	// seat in the API server's own queue.
	MaxHolds int
	// PickupTimeout is how long a PodCheckpoint may have no phase before the agent of the node is taken to be away. An agent that
	// can't begin yet writes Pending.
	PickupTimeout time.Duration
	// MaxAttempts is how often a pod is frozen for one eviction before it goes without a checkpoint, when nobody ended it after any.
	MaxAttempts int
	// EvictingUsers are those whose deletions of pods count as evictions, as patterns of path.Match. Nil means DefaultEvictingUsers.
	EvictingUsers []string
	// Responder is whether opted-in pods name Cryopod among their eviction responders.
	Responder bool
	// Taints are those that announce a node's end; nil is termination.Defaults.
	Taints termination.List
	// Images is where the agents push: registry/path. A checkpoint whose images are elsewhere than below that, in the repository of its
	// namespace, is not claimed. Empty: they may be anywhere.
	Images string
	// SchedulerReady tells whether Cryopod's scheduler runs. Nil means that it does not.
	SchedulerReady func(context.Context) bool
}

func (o Options) withDefaults() Options {
	if o.Hold <= 0 {
		o.Hold = DefaultHold
	}
	if o.MaxHolds <= 0 {
		o.MaxHolds = DefaultMaxHolds
	}
	if o.PickupTimeout <= 0 {
		o.PickupTimeout = DefaultPickupTimeout
	}
	if o.MaxAttempts <= 0 {
		o.MaxAttempts = DefaultMaxAttempts
	}
	if o.PreemptionHold <= 0 {
		o.PreemptionHold = DefaultPreemptionHold
	}
	if o.EvictingUsers == nil {
		o.EvictingUsers = DefaultEvictingUsers
	}
	if o.Taints == nil {
		o.Taints = termination.Defaults()
	}
	if o.SchedulerReady == nil {
		o.SchedulerReady = func(context.Context) bool { return false }
	}
	return o
}

// Writer makes PodCheckpoints, takes them back, writes their status, and deletes pods that are saved.
type Writer interface {
	Create(ctx context.Context, obj client.Object, opts ...client.CreateOption) error
	Delete(ctx context.Context, obj client.Object, opts ...client.DeleteOption) error
	Status() client.SubResourceWriter
}

// Recorder records events; events.EventRecorder of client-go is one.
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// Dependencies are what the handlers work with. All of them may be used from many goroutines at once.
type Dependencies struct {
	// Live reads from the API server.
	Live client.Reader
	// Cached reads PodCheckpoints, opted-in pods and nodes from informers.
	Cached client.Reader
	// Writer makes and changes PodCheckpoints, and ends saved pods.
	Writer Writer
	// Events gets the events.
	Events Recorder
	// Access tells who may claim checkpoints, beside Kubernetes' own controllers; nil: nobody.
	Access Access
	// Clock tells the time.
	Clock clock.Clock
	// Changes tells when a PodCheckpoint has changed.
	Changes *Waiter
}
