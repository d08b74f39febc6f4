// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/agent/stream"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/metrics"
)

const (
	// settle is how long the publisher waits after a change for further ones, so that many become one write.
	settle = time.Second
	// unhurried is how long a change that nobody waits for may wait for another one: what pulls measured goes with the list of images that they
	// end in.
	unhurried = spacing
	// firstRetry and lastRetry bound the pauses between attempts to write.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Publisher keeps the node's NodeProfile as the facts say. It writes only when something changed.
type Publisher struct {
	// Node is the node's name and that of its profile.
	Node string
	// Client reads past any cache and writes.
	Client client.Client
	// Facts returns what is known now.
	Facts func() Facts
	// Clock is the time.
	Clock clock.Clock

	nudge, hurry, hint chan struct{}
}

// NewPublisher returns a publisher that is told of changes by Changed, Urgent and Unhurried.
func NewPublisher(node string, c client.Client, facts func() Facts, now clock.Clock) *Publisher {
	return &Publisher{Node: node, Client: c, Facts: facts, Clock: now,
		nudge: make(chan struct{}, 1), hurry: make(chan struct{}, 1), hint: make(chan struct{}, 1)}
}

// Changed tells that facts, or the object, may have changed. It never blocks.
func (p *Publisher) Changed() { stream.Poke(p.nudge) }

// Urgent tells that facts have changed that can't wait for others. It never blocks.
func (p *Publisher) Urgent() { stream.Poke(p.hurry) }

// Unhurried tells that facts have changed that can wait a while for others. It never blocks.
func (p *Publisher) Unhurried() { stream.Poke(p.hint) }

// Start publishes until ctx ends.
func (p *Publisher) Start(ctx context.Context) error {
	logger := log.FromContext(ctx).WithName("profile")
	pause := time.Duration(0)
	var due <-chan time.Time
	for {
		var retry <-chan time.Time
		if pause > 0 {
			retry = p.Clock.After(pause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.hint:
			if due == nil {
				due = p.Clock.After(unhurried)
			}
			continue
		case <-due:
		case <-retry:
		case <-p.hurry:
		case <-p.nudge:
			select {
			case <-ctx.Done():
				return nil
			case <-p.hurry:
			case <-p.Clock.After(settle):
			}
		}
		due = nil
		wrote, err := p.Publish(ctx)
		switch {
		case err != nil:
			metrics.CountAgentError(metrics.StepProfile)
			logger.Error(err, "Publishing the node's profile")
			pause = min(max(firstRetry, 2*pause), lastRetry)
		case wrote:
			logger.Info("Published the node's profile")
			fallthrough
		default:
			pause = 0
		}
	}
}

// Publish writes the profile when it is not as the facts say, and reports whether it was written.
func (p *Publisher) Publish(ctx context.Context) (bool, error) {
	profile := &v1alpha1.NodeProfile{}
	err := p.Client.Get(ctx, client.ObjectKey{Name: p.Node}, profile)
	if apierrors.IsNotFound(err) {
		return true, p.create(ctx)
	}
	if err != nil {
		return false, fmt.Errorf("reading node profile %q: %w", p.Node, err)
	}
	status := StatusOf(p.Facts(), profile.Status, p.Clock.Now())
	if equality.Semantic.DeepEqual(status, profile.Status) {
		return false, nil
	}
	profile.Status = status
	if err := p.Client.Update(ctx, profile); err != nil {
		return false, fmt.Errorf("writing node profile %q: %w", p.Node, err)
	}
	return true, nil
}

// create makes the profile, owned by the node so that it goes with it.
func (p *Publisher) create(ctx context.Context) error {
	node := &corev1.Node{}
	if err := p.Client.Get(ctx, client.ObjectKey{Name: p.Node}, node); err != nil {
		return fmt.Errorf("reading node %q: %w", p.Node, err)
	}
	profile := &v1alpha1.NodeProfile{
		ObjectMeta: metav1.ObjectMeta{Name: p.Node, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID},
		}},
		Status: StatusOf(p.Facts(), v1alpha1.NodeProfileStatus{}, p.Clock.Now()),
	}
	if err := p.Client.Create(ctx, profile); err != nil {
		return fmt.Errorf("creating node profile %q: %w", p.Node, err)
	}
	return nil
}
