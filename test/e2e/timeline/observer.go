// SPDX-License-Identifier: Apache-2.0

// Package timeline tells how long each part of a move took, from what a bystander saw: the API server's watches, the kubelet's events,
// the PodCheckpoint's timings and the recorder's log. What nobody saw has no duration.
package timeline

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Seen is when a bystander first saw something of a pod. A zero time is never.
type Seen struct {
	Created, Bound, Deleted time.Time
	// Pulled is how long the kubelet says it took to pull the pod's images; nil when it said nothing of images.
	Pulled *time.Duration
}

// Observer watches the pods of a namespace. It is safe for concurrent use.
type Observer struct {
	mu   sync.Mutex
	pods map[types.UID]Seen
}

// NewObserver returns an Observer that has seen nothing and takes in what Note is given.
func NewObserver() *Observer {
	return &Observer{pods: map[types.UID]Seen{}}
}

// Observe watches from now until ctx is done.
func Observe(ctx context.Context, c client.WithWatch, namespace string) (*Observer, error) {
	o := NewObserver()
	for _, list := range []client.ObjectList{&corev1.PodList{}, &corev1.EventList{}} {
		w, err := c.Watch(ctx, list, client.InNamespace(namespace))
		if err != nil {
			return nil, fmt.Errorf("watching %T of %q: %w", list, namespace, err)
		}
		go o.follow(ctx, w)
	}
	return o, nil
}

// Pod is what was seen of the pod so far.
func (o *Observer) Pod(uid types.UID) Seen {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pods[uid]
}

func (o *Observer) follow(ctx context.Context, w watch.Interface) {
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.ResultChan():
			if !ok {
				return
			}
			o.Note(e, time.Now())
		}
	}
}

// Note takes in one event of a watch that came at now.
func (o *Observer) Note(e watch.Event, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch object := e.Object.(type) {
	case *corev1.Pod:
		seen := o.pods[object.UID]
		first(&seen.Created, now)
		if object.Spec.NodeName != "" {
			first(&seen.Bound, now)
		}
		if object.DeletionTimestamp != nil || e.Type == watch.Deleted {
			first(&seen.Deleted, now)
		}
		o.pods[object.UID] = seen
	case *corev1.Event:
		uid := object.InvolvedObject.UID
		if took, ok := pullTime(object); ok && e.Type == watch.Added {
			seen := o.pods[uid]
			if seen.Pulled != nil {
				took += *seen.Pulled
			}
			seen.Pulled = &took
			o.pods[uid] = seen
		}
	}
}

func first(t *time.Time, now time.Time) {
	if t.IsZero() {
		*t = now
	}
}

// The kubelet's own words (pkg/kubelet/images/image_manager.go): how long a pull took, or that none was needed.
var (
	pulled  = regexp.MustCompile(`^Successfully pulled image ".*" in ([0-9.a-zµ]+) \(`)
	present = regexp.MustCompile(`already present on machine`)
)

func pullTime(e *corev1.Event) (time.Duration, bool) {
	if e.Reason != "Pulled" {
		return 0, false
	}
	if present.MatchString(e.Message) {
		return 0, true
	}
	match := pulled.FindStringSubmatch(e.Message)
	if match == nil {
		return 0, false
	}
	took, err := time.ParseDuration(match[1])
	return took, err == nil
}
