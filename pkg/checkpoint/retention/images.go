// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/image"
	"github.com/cryopod/cryopod/pkg/metrics"
)

const (
	// deletion bounds how long the registry is asked to delete one image.
	deletion = 30 * time.Second

	// refusal is how long a registry that refused to delete is not asked again: somebody may allow it.
	refusal = time.Hour
)

// errRefused means that the registry will not delete images, so that there is no sense in asking it soon again.
var errRefused = errors.New("registry refuses to delete images")

// Registry is where checkpoint images are. *image.Pusher is one.
type Registry interface {
	// Delete deletes an image by its tag; one that is not there is no error. It fails with image.ErrDeleteUnsupported or
	// image.ErrDeleteDenied when it is of no use to try again.
	Delete(ctx context.Context, ref string) error
	// Tags lists a repository's tags; with image.ErrTooMany, some of them.
	Tags(ctx context.Context, repository string) ([]string, error)
	// Repositories lists what is below a prefix; with image.ErrTooMany, some of them.
	Repositories(ctx context.Context, prefix string) ([]string, error)
	// Inspect tells about an image, nil when it is not there.
	Inspect(ctx context.Context, ref string) (*image.Stored, error)
}

// Images deletes checkpoint images. A nil one has no registry: nothing can be deleted there. Its methods may be called concurrently.
type Images struct {
	// Registry has the images, below Prefix (registry/path).
	Registry Registry
	Prefix   string
	// Events gets an event on Self when the registry refuses to delete: once, and again when it refuses otherwise.
	Events event.Recorder
	Self   *corev1.ObjectReference
	// Clock tells the time.
	Clock clock.PassiveClock

	mu       sync.Mutex
	refused  time.Time
	reported metrics.RetentionFailure
	// seen are namespaces whose checkpoints have images: those outlive them.
	seen map[string]struct{}
}

// of are the tags of the images that the PodCheckpoint may have in the registry. Only what bears its own name below the prefix is ever
// deleted: a status is written by agents, and might name any image.
func (i *Images) of(pc *v1alpha1.PodCheckpoint) (tags, foreign []string) {
	if !HasImages(pc) {
		return nil, nil
	}
	for j := range pc.Status.Containers {
		c := &pc.Status.Containers[j]
		tag := image.Tag(i.Prefix, pc.Namespace, pc.Name, c.Name)
		if c.ImageTag != "" && c.ImageTag != tag {
			foreign = append(foreign, c.ImageTag)
			continue
		}
		tags = append(tags, tag)
	}
	return tags, foreign
}

// remove deletes the images of a PodCheckpoint. It fails with errRefused when the registry does not delete, and with other errors when it may
// at another time.
func (i *Images) remove(ctx context.Context, pc *v1alpha1.PodCheckpoint, rule metrics.RetentionRule) error {
	tags, foreign := i.of(pc)
	for _, tag := range foreign {
		metrics.CountRetentionFailure(metrics.RetentionForeign)
		log.FromContext(ctx).Info("Leaving an image that is not in this registry under its PodCheckpoint's name", "image", tag)
	}
	for _, tag := range tags {
		if err := i.delete(ctx, tag); err != nil {
			return err
		}
	}
	if len(tags) > 0 {
		metrics.CountRemovedImages(rule, len(tags), heldBytes(pc))
		log.FromContext(ctx).Info("Images removed", "checkpoint", pc.Name, "rule", rule, "images", len(tags), "bytes", heldBytes(pc))
	}
	return nil
}

// saw notes that there are images of a namespace.
func (i *Images) saw(namespace string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.seen == nil {
		i.seen = map[string]struct{}{}
	}
	i.seen[namespace] = struct{}{}
}

// forget takes that back: the registry has none.
func (i *Images) forget(namespace string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.seen, namespace)
}

func (i *Images) seenIn() map[string]struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := make(map[string]struct{}, len(i.seen))
	maps.Copy(all, i.seen)
	return all
}

// refuses tells whether the registry refused to delete not long ago.
func (i *Images) refuses() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !i.refused.IsZero() && i.Clock.Since(i.refused) < refusal
}

func (i *Images) delete(ctx context.Context, tag string) error {
	if i.refuses() {
		return errRefused
	}
	ctx, cancel := context.WithTimeout(ctx, deletion)
	defer cancel()
	err := i.Registry.Delete(ctx, tag)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, image.ErrDeleteUnsupported):
		i.refuse(ctx, metrics.RetentionUnsupported, err)
	case errors.Is(err, image.ErrDeleteDenied):
		i.refuse(ctx, metrics.RetentionDenied, err)
	default:
		metrics.CountRetentionFailure(metrics.RetentionAway)
		return err
	}
	return fmt.Errorf("%w: %w", errRefused, err)
}

// refuse remembers a refusal, and tells of the first of its kind.
func (i *Images) refuse(ctx context.Context, cause metrics.RetentionFailure, err error) {
	metrics.CountRetentionFailure(cause)
	i.mu.Lock()
	i.refused = i.Clock.Now()
	first := i.reported != cause
	i.reported = cause
	i.mu.Unlock()
	if !first {
		return
	}
	log.FromContext(ctx).Info("The registry does not delete images; only its own retention can", "cause", cause, "error", err.Error())
	what := "does not delete images (for distribution: storage.delete.enabled)"
	if cause == metrics.RetentionDenied {
		what = "does not let these credentials delete images"
	}
	i.Events.Eventf(i.Self, nil, corev1.EventTypeWarning, event.ReasonRegistryRefuses, "Delete",
		"The registry of %q %s; checkpoints stay there until it removes them by a retention policy of its own", i.Prefix, what)
}
