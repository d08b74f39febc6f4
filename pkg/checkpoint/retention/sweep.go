// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/image"
	"github.com/cryopod/cryopod/pkg/metrics"
)

const (
	// settledAge is how old a checkpoint is when its image is deleted as soon as no PodCheckpoint names it.
	settledAge = time.Hour

	// sweepRetry is when a sweep that failed is tried again, unless the next one comes sooner.
	sweepRetry = 5 * time.Minute

	// patience is how many failures there may be before the registry is taken to be away: one alone may be about one image or one
	// repository.
	patience = 3

	// maxInspected bounds the images that one sweep reads, maxForeign those that are remembered to be somebody else's.
	maxInspected, maxForeign = 5_000, 100_000
)

// Sweeper deletes the images that no PodCheckpoint names: those of PodCheckpoints that were deleted by hand, with their owners, or
// with their namespaces. It runs where the controllers do, at their start and every so often.
type Sweeper struct {
	// Client reads PodCheckpoints and namespaces from the cache, Live from the API server.
	Client, Live client.Reader
	// Images are the registry's.
	Images *Images
	// Clock tells the time.
	Clock clock.Clock
	// Every is how often to sweep.
	Every time.Duration

	// since is when a sweep first found an image without a PodCheckpoint, by its name.
	since map[string]time.Time
	// foreign are images that are not this cluster's, and need not be read again.
	foreign map[string]struct{}
}

var (
	_ manager.Runnable               = (*Sweeper)(nil)
	_ manager.LeaderElectionRunnable = (*Sweeper)(nil)
)

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (s *Sweeper) NeedLeaderElection() bool { return true }

// Start implements manager.Runnable: it sweeps until ctx is done.
func (s *Sweeper) Start(ctx context.Context) error {
	ctx = log.IntoContext(ctx, log.FromContext(ctx).WithName("checkpoint.sweep"))
	for {
		next := s.Every
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "Searching the registry for images without PodCheckpoints failed")
			next = min(next, sweepRetry)
		}
		timer := s.Clock.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C():
		}
	}
}

// Sweep searches once.
func (s *Sweeper) Sweep(ctx context.Context) error {
	cluster, err := s.cluster(ctx)
	if err != nil {
		return err
	}
	namespaces, err := s.namespaces(ctx)
	if err != nil {
		return err
	}
	one := sweep{Sweeper: s, cluster: cluster, now: s.Clock.Now(), orphans: map[string]time.Time{}, left: maxInspected}
	var failures []error
	for _, ns := range namespaces {
		err := one.repository(ctx, ns)
		if err == nil {
			continue
		}
		failures = append(failures, err)
		if errors.Is(err, errRefused) || len(failures) == patience {
			break
		}
	}
	if len(failures) > 0 {
		// What this sweep has not come to is still known from former ones.
		maps.Copy(one.orphans, s.since)
	}
	s.since = one.orphans
	if len(failures) > 0 && errors.Is(failures[len(failures)-1], errRefused) {
		return nil // Images has told of it
	}
	return errors.Join(failures...)
}

// cluster is by what this cluster's images are told from others' in the same registry.
func (s *Sweeper) cluster(ctx context.Context) (string, error) {
	ns := &corev1.Namespace{}
	if err := s.Client.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, ns); err != nil {
		return "", fmt.Errorf("reading namespace %q: %w", metav1.NamespaceSystem, err)
	}
	return string(ns.UID), nil
}

// namespaces are those whose images the registry may have: all that there are, those that had PodCheckpoints since the start, and those
// that the registry tells of.
func (s *Sweeper) namespaces(ctx context.Context) ([]string, error) {
	var live corev1.NamespaceList
	if err := s.Client.List(ctx, &live); err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	all := s.Images.seenIn()
	for i := range live.Items {
		all[live.Items[i].Name] = struct{}{}
	}
	listed, err := s.Images.Registry.Repositories(ctx, s.Images.Prefix)
	switch {
	case errors.Is(err, image.ErrListUnsupported):
		log.FromContext(ctx).V(1).Info("The registry does not list its repositories; images of deleted namespaces are not found")
	case errors.Is(err, image.ErrTooMany):
		log.FromContext(ctx).Info("The registry has too many repositories; not all of deleted namespaces are looked at")
	case err != nil:
		metrics.CountRetentionFailure(metrics.RetentionAway)
		return nil, err
	}
	for _, name := range listed {
		if len(validation.IsDNS1123Label(name)) == 0 {
			all[name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// sweep is one search.
type sweep struct {
	*Sweeper
	cluster string
	// now is when it began.
	now time.Time
	// orphans are those that are left, and since when.
	orphans map[string]time.Time
	// left is how many images may still be read.
	left int
}

// repository searches a namespace's. The tags are listed before the PodCheckpoints, and those by the API server itself: an image whose
// PodCheckpoint was there before it is never taken for an orphan.
func (s *sweep) repository(ctx context.Context, namespace string) error {
	repository := image.Repository(s.Images.Prefix, namespace)
	tags, err := s.Images.Registry.Tags(ctx, repository)
	switch {
	case errors.Is(err, image.ErrListUnsupported):
		// Some registries answer so for a repository that does not exist. One that checkpoints were pushed to does.
		if _, pushed := s.Images.seenIn()[namespace]; pushed {
			metrics.CountRetentionFailure(metrics.RetentionDenied)
			log.FromContext(ctx).Info("The registry does not list the tags of a repository that it has", "repository", repository, "error", err.Error())
		}
		return nil
	case errors.Is(err, image.ErrTooMany):
		log.FromContext(ctx).Info("The repository has too many tags; not all are looked at", "repository", repository)
	case err != nil:
		metrics.CountRetentionFailure(metrics.RetentionAway)
		return err
	}
	if len(tags) == 0 {
		s.Images.forget(namespace)
	}
	for _, reader := range []client.Reader{s.Client, s.Live} {
		if tags, err = s.unnamed(ctx, reader, namespace, tags); err != nil {
			return err
		}
		if len(tags) == 0 {
			return nil
		}
	}
	for _, tag := range tags {
		if err := s.orphan(ctx, namespace, tag); err != nil {
			return err
		}
	}
	return nil
}

// unnamed are the tags of our form whose PodCheckpoint the reader does not have.
func (s *sweep) unnamed(ctx context.Context, reader client.Reader, namespace string, tags []string) ([]string, error) {
	if len(tags) == 0 {
		return nil, nil
	}
	var all v1alpha1.PodCheckpointList
	if err := reader.List(ctx, &all, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing the PodCheckpoints of namespace %q: %w", namespace, err)
	}
	names := make(map[string]struct{}, len(all.Items))
	for i := range all.Items {
		names[all.Items[i].Name] = struct{}{}
	}
	return slices.DeleteFunc(tags, func(tag string) bool {
		checkpoint, _, ok := image.ParseTag(tag)
		_, named := names[checkpoint]
		return !ok || named
	}), nil
}

// orphan deletes an image without a PodCheckpoint if it is ours and has been so for long enough.
func (s *sweep) orphan(ctx context.Context, namespace, tag string) error {
	ref := image.Repository(s.Images.Prefix, namespace) + ":" + tag
	if _, foreign := s.foreign[ref]; foreign {
		return nil
	}
	if s.left--; s.left < 0 {
		s.remember(ref)
		return nil
	}
	stored, err := s.Images.Registry.Inspect(ctx, ref)
	unreadable := errors.Is(err, image.ErrUnreadable)
	if err != nil && !unreadable {
		metrics.CountRetentionFailure(metrics.RetentionAway)
		return err
	}
	if stored == nil && !unreadable {
		return nil
	}
	if unreadable || !Ours(tag, stored, namespace, s.cluster) {
		if len(s.foreign) >= maxForeign || s.foreign == nil {
			s.foreign = map[string]struct{}{}
		}
		s.foreign[ref] = struct{}{}
		return nil
	}
	if !Abandoned(stored, s.since[ref], s.Every, s.now) {
		s.remember(ref)
		return nil
	}
	if err := s.Images.delete(ctx, ref); err != nil {
		s.remember(ref)
		return err
	}
	metrics.CountRemovedImages(metrics.RuleOrphan, 1, stored.Bytes)
	log.FromContext(ctx).Info("Image without a PodCheckpoint removed", "image", ref, "bytes", stored.Bytes)
	return nil
}

func (s *sweep) remember(ref string) {
	since, known := s.since[ref]
	if !known {
		since = s.now
	}
	s.orphans[ref] = since
}

// Ours tells whether an image is a checkpoint that this cluster's agents made of a pod of that namespace, under the tag that they give it.
func Ours(tag string, stored *image.Stored, namespace, cluster string) bool {
	_, container, ok := image.ParseTag(tag)
	return ok && cluster != "" && stored.Cluster == cluster && stored.Namespace == namespace && stored.Container == container
}

// Abandoned tells whether an image without a PodCheckpoint has been so for long enough to be deleted: it is old, or a former sweep found
// it without one too (since is zero where none did).
func Abandoned(stored *image.Stored, since time.Time, every time.Duration, now time.Time) bool {
	old := !stored.Created.IsZero() && now.Sub(stored.Created) >= settledAge
	return old || !since.IsZero() && now.Sub(since) >= every
}
