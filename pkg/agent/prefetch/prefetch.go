// SPDX-License-Identifier: Apache-2.0

// Package prefetch brings the layers of checkpoint images to the node while the kubelet still pulls the base images that the pod is restored
// upon: the kubelet pulls one image after the other.
//
// It makes no image of them. The kubelet pulls the checkpoint image all the same, with the credentials that it has for the pod, and the runtime
// then finds in its store what has come already. When the base images are there, so that the kubelet comes to the checkpoint, it stops, and the
// runtime goes on from where it was: two that pull the same layer would wait for each other.
package prefetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/agent/stream"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/image"
	"github.com/cryopod/cryopod/pkg/metrics"
)

const (
	// parallel is how many pods are fetched for at a time.
	parallel = 2
	// fresh is how old a pod's sandbox may be: of an older one the kubelet has pulled what it needs, or is about to.
	fresh = 30 * time.Second
	// patience bounds the work for one pod. What was fetched is kept for a while longer, as base images may take their time.
	patience = 10 * time.Minute
	kept     = 15 * time.Minute
	// most is how many bytes are fetched for one pod.
	most = 64 << 30
)

// Registry has the checkpoint images.
type Registry interface {
	// Layers are those of a checkpoint image; of another one there are none.
	Layers(ctx context.Context, ref string) ([]image.Blob, error)
	// Open reads a layer of an image.
	Open(ctx context.Context, ref, digest string) (io.ReadCloser, error)
}

// Store is the node's.
type Store interface {
	// Restoring lists the pods that were made to be restored, as soon as their sandboxes are made.
	Restoring(ctx context.Context) ([]containerd.Start, error)
	// HasImage reports whether the node has the image of that name.
	HasImage(ctx context.Context, name string) (bool, error)
	// Keep keeps what is brought in by the context that it returns for so long.
	Keep(ctx context.Context, d time.Duration) (context.Context, error)
	// Ingest brings a layer in, and tells how many bytes came.
	Ingest(ctx context.Context, layer image.Blob, open func(context.Context) (io.ReadCloser, error)) (int64, error)
}

// Prefetcher fetches for the pods of one node. All fields must be set.
type Prefetcher struct {
	// Node is the node's name, Prefix where checkpoint images are: registry/path.
	Node, Prefix string
	// Registry and Store are from where and to where.
	Registry Registry
	Store    Store
	// Live reads pods from the API server.
	Live client.Reader
	// Starts calls started at its beginning and whenever a pod's sandbox is made, until the stream ends; Pulls the same with images that are pulled.
	Starts, Pulls func(ctx context.Context, changed func()) error
	// Clock is the time.
	Clock clock.Clock

	// seen are the pods that were looked at and still are on the node.
	seen map[types.UID]bool
}

// Start fetches until ctx ends.
func (p *Prefetcher) Start(ctx context.Context) error {
	started := make(chan struct{}, 1)
	go p.work(ctx, started)
	stream.Follow(ctx, p.Clock, "starts of containers", p.Starts, started)
	return nil
}

func (p *Prefetcher) work(ctx context.Context, started <-chan struct{}) {
	slots := make(chan struct{}, parallel)
	for {
		select {
		case <-ctx.Done():
			return
		case <-started:
		}
		for _, s := range p.arrivals(ctx) {
			go func() {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				select {
				case <-ctx.Done():
				case slots <- struct{}{}:
					p.fetch(ctx, s)
					<-slots
				}
			}()
		}
	}
}

// arrivals are the pods that have come since it was last called.
func (p *Prefetcher) arrivals(ctx context.Context) []containerd.Start {
	all, err := p.Store.Restoring(ctx)
	if err != nil {
		logger(ctx).Info("Could not look for pods that are restored", "error", err.Error())
		return nil
	}
	var came []containerd.Start
	present := map[types.UID]bool{}
	for _, s := range all {
		if present[s.UID] = true; !p.seen[s.UID] && p.Clock.Since(s.Time) < fresh {
			came = append(came, s)
		}
	}
	p.seen = present
	return came
}

// fetch fetches what can be of use for one pod, counts it, and says what came of it. A failure harms nobody: the kubelet pulls what is missing.
func (p *Prefetcher) fetch(ctx context.Context, s containerd.Start) {
	bytes, err := p.forPod(ctx, s)
	result := metrics.PrefetchWhole
	switch {
	case errors.Is(err, errNeedless):
		result = metrics.PrefetchNeedless
	case errors.Is(err, errHandedOver):
		result = metrics.PrefetchHandedOver
	case err != nil:
		result = metrics.PrefetchFailed
	}
	metrics.CountPrefetch(result, bytes)
	detail := ""
	if err != nil {
		detail = err.Error()
	}
	logger(ctx).Info("Fetched ahead for a pod that is restored",
		"namespace", s.Namespace, "pod", s.Name, "result", result, "bytes", bytes, "detail", detail)
}

func logger(ctx context.Context) logr.Logger { return log.FromContext(ctx).WithName("prefetch").V(1) }

var (
	// errNeedless: the kubelet comes to the checkpoint images at once, or there are none.
	errNeedless = errors.New("nothing to be fetched ahead")
	// errHandedOver: the base images were there before all was fetched.
	errHandedOver = errors.New("the kubelet goes on")
)

// forPod fetches the layers of a pod's checkpoint images as long as base images of it are missing.
func (p *Prefetcher) forPod(ctx context.Context, s containerd.Start) (int64, error) {
	pod := &corev1.Pod{}
	if err := p.Live.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: s.Name}, pod); err != nil {
		return 0, fmt.Errorf("reading pod %q: %w", s.Name, err)
	}
	bases, checkpoints := Images(pod, p.Prefix)
	if pod.UID != s.UID || pod.Spec.NodeName != p.Node || len(checkpoints) == 0 {
		return 0, errNeedless
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if !p.missing(ctx, bases) {
		return 0, errNeedless
	}
	go func() {
		err := p.Pulls(ctx, func() {
			if !p.missing(ctx, bases) {
				stop(errHandedOver)
			}
		})
		// Nobody tells any more when the kubelet comes.
		stop(err)
	}()
	bytes, err := p.images(ctx, checkpoints)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return bytes, err
}

// missing reports whether one of the images is not on the node.
func (p *Prefetcher) missing(ctx context.Context, names []string) bool {
	for _, name := range names {
		if has, err := p.Store.HasImage(ctx, name); err == nil && !has {
			return true
		}
	}
	return false
}

// images fetches the layers of images, one after the other as the kubelet will.
func (p *Prefetcher) images(ctx context.Context, refs []string) (bytes int64, err error) {
	ctx, err = p.Store.Keep(ctx, kept)
	if err != nil {
		return 0, err
	}
	for _, ref := range refs {
		layers, err := p.Registry.Layers(ctx, ref)
		if err != nil {
			return bytes, err
		}
		for _, l := range layers {
			if l.Bytes > most-bytes {
				return bytes, fmt.Errorf("fetching image %q: more than %d bytes for one pod", ref, int64(most))
			}
			came, err := p.Store.Ingest(ctx, l, func(ctx context.Context) (io.ReadCloser, error) {
				return p.Registry.Open(ctx, ref, l.Digest)
			})
			bytes += came
			if err != nil {
				return bytes, err
			}
		}
	}
	return bytes, nil
}

// Images are the images that the kubelet pulls for a pod that is restored: first the base images, then the checkpoint images, which are those
// of the pod's namespace below the prefix. There are none for a pod that is not to be restored, or not any more.
func Images(pod *corev1.Pod, prefix string) (bases, checkpoints []string) {
	if pod.Annotations[v1alpha1.AnnotationRestoreFrom] == "" || pod.Annotations[v1alpha1.AnnotationFellBack] != "" || pod.DeletionTimestamp != nil {
		return nil, nil
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].Image; v != nil {
			bases = append(bases, v.Reference)
		}
	}
	repository := image.Repository(prefix, pod.Namespace)
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		rest, ours := strings.CutPrefix(c.Image, repository)
		if ours && (strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, "@")) && !slices.Contains(checkpoints, c.Image) {
			checkpoints = append(checkpoints, c.Image)
		}
	}
	return bases, checkpoints
}
