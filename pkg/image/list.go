// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	criu "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

var (
	// ErrListUnsupported means that the registry does not list what was asked for, or not with these credentials. Many never list their
	// repositories, and some answer so for the tags of a repository that does not exist.
	ErrListUnsupported = errors.New("registry does not list that")

	// ErrUnreadable means that a manifest is none, or larger than ListLimits allow: the image is not one of Cryopod's.
	ErrUnreadable = errors.New("manifest can't be read")

	// ErrTooMany means that a list was longer than ListLimits allow.
	ErrTooMany = errors.New("registry has more than are looked at")
)

// ListLimits bound what is read of a registry that is asked what it has: it may be another's, huge, or out of order.
type ListLimits struct {
	// Names is how many names of one list are read, Pages how many answers they may come in.
	Names, Pages int
	// AnswerBytes bounds one answer, and one manifest.
	AnswerBytes int64
	// Timeout bounds a list, all of its pages together, or the reading of one manifest.
	Timeout time.Duration
}

// DefaultListLimits are enough for a namespace that makes a checkpoint a second and keeps each for a day.
var DefaultListLimits = ListLimits{Names: 100_000, Pages: 1_000, AnswerBytes: 4 << 20, Timeout: time.Minute}

func (l ListLimits) orDefault() ListLimits {
	if l.Names == 0 {
		l.Names = DefaultListLimits.Names
	}
	if l.Pages == 0 {
		l.Pages = DefaultListLimits.Pages
	}
	if l.AnswerBytes == 0 {
		l.AnswerBytes = DefaultListLimits.AnswerBytes
	}
	if l.Timeout == 0 {
		l.Timeout = DefaultListLimits.Timeout
	}
	return l
}

// Stored is an image that a registry has.
type Stored struct {
	// Digest is its manifest's, sha256:….
	Digest string
	// Bytes is the size of its layers, configuration and manifest, as the manifest tells.
	Bytes int64
	// Created is when the checkpoint was made, zero when the image does not tell.
	Created time.Time
	// Container, Namespace and Cluster are what the image was made of, and in which cluster; empty where the image does not tell.
	Container, Namespace, Cluster string
}

// Tags lists the tags of a repository (registry/path). One that does not exist has none; one that may not be seen, or that some registries do
// not tell from it, is ErrListUnsupported. When there are more than p.Lists allow, those that were read are returned together with ErrTooMany.
func (p *Pusher) Tags(ctx context.Context, repository string) ([]string, error) {
	repo, err := name.NewRepository(repository, append(p.nameOptions(repository), name.StrictValidation)...)
	if err != nil {
		return nil, fmt.Errorf("parsing repository %q: %w", repository, err)
	}
	limits := p.Lists.orDefault()
	ctx, cancel := context.WithTimeout(ctx, limits.Timeout)
	defer cancel()
	puller, err := remote.NewPuller(p.boundedOptions(ctx, limits)...)
	if err != nil {
		return nil, fmt.Errorf("listing the tags of %q: %w", repository, explain(err))
	}
	var tags []string
	lister, err := puller.Lister(ctx, repo)
	if err == nil {
		tags, err = limits.collect(lister.HasNext, func() ([]string, error) {
			page, err := lister.Next(ctx)
			if err != nil {
				return nil, err
			}
			return page.Tags, nil
		})
	}
	if isStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	if err = unsupported(err); err != nil {
		return tags, fmt.Errorf("listing the tags of %q: %w", repository, err)
	}
	return tags, nil
}

// Repositories lists the repositories directly below a prefix (registry or registry/path), without the prefix. A registry that does not tell is
// ErrListUnsupported. When there are more than p.Lists allow, those that were read are returned together with ErrTooMany.
func (p *Pusher) Repositories(ctx context.Context, prefix string) ([]string, error) {
	host, path, _ := strings.Cut(prefix, "/")
	registry, err := name.NewRegistry(host, append(p.nameOptions(prefix), name.StrictValidation)...)
	if err != nil {
		return nil, fmt.Errorf("parsing registry %q: %w", prefix, err)
	}
	limits := p.Lists.orDefault()
	ctx, cancel := context.WithTimeout(ctx, limits.Timeout)
	defer cancel()
	puller, err := remote.NewPuller(p.boundedOptions(ctx, limits)...)
	if err != nil {
		return nil, fmt.Errorf("listing the repositories of %q: %w", host, explain(err))
	}
	var all []string
	lister, err := puller.Catalogger(ctx, registry)
	if err == nil {
		all, err = limits.collect(lister.HasNext, func() ([]string, error) {
			page, err := lister.Next(ctx)
			if err != nil {
				return nil, err
			}
			return page.Repos, nil
		})
	}
	names := below(all, path)
	if err = unsupported(err); err != nil {
		return names, fmt.Errorf("listing the repositories of %q: %w", host, err)
	}
	return names, nil
}

// unsupported makes an error ErrListUnsupported if it means that.
func unsupported(err error) error {
	for _, code := range []int{
		http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusUnauthorized, http.StatusForbidden,
	} {
		if isStatus(err, code) {
			return fmt.Errorf("%w: %w", ErrListUnsupported, explain(err))
		}
	}
	return explain(err)
}

// below are the last parts of the names that lie directly below the path.
func below(all []string, path string) []string {
	if path != "" {
		path += "/"
	}
	var names []string
	for _, one := range all {
		if rest, ok := strings.CutPrefix(one, path); ok && rest != "" && !strings.Contains(rest, "/") {
			names = append(names, rest)
		}
	}
	return names
}

// Inspect reads the manifest of an image, by tag or by digest. One that is not there is nil; one that is no manifest is ErrUnreadable.
func (p *Pusher) Inspect(ctx context.Context, ref string) (*Stored, error) {
	got, manifest, err := p.manifest(ctx, ref)
	if got == nil || err != nil {
		return nil, err
	}
	stored := &Stored{Digest: got.Digest.String(), Bytes: int64(len(got.Manifest))}
	if manifest == nil {
		return stored, nil
	}
	stored.Bytes += max(manifest.Config.Size, 0)
	for i := range manifest.Layers {
		stored.Bytes += max(manifest.Layers[i].Size, 0)
	}
	stored.Container = manifest.Annotations[criu.CheckpointAnnotationName]
	stored.Namespace = manifest.Annotations[criu.CheckpointAnnotationNamespace]
	stored.Cluster = manifest.Annotations[annotationCluster]
	if created, err := time.Parse(time.RFC3339, manifest.Annotations[annotationCreated]); err == nil {
		stored.Created = created
	}
	return stored, nil
}

// manifest reads the manifest of an image. There is no descriptor when the image is not there, and no manifest when it is none of one image.
func (p *Pusher) manifest(ctx context.Context, ref string) (*remote.Descriptor, *v1.Manifest, error) {
	r, err := name.ParseReference(ref, append(p.nameOptions(ref), name.StrictValidation)...)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing image reference %q: %w", ref, err)
	}
	limits := p.Lists.orDefault()
	ctx, cancel := context.WithTimeout(ctx, limits.Timeout)
	defer cancel()
	got, err := remote.Get(r, p.boundedOptions(ctx, limits)...)
	if isStatus(err, http.StatusNotFound) {
		return nil, nil, nil
	}
	if errors.Is(err, errAnswerTooLarge) {
		err = fmt.Errorf("%w: %w", ErrUnreadable, explain(err))
	} else {
		err = explain(err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the manifest of %q: %w", ref, err)
	}
	if !got.MediaType.IsImage() {
		return got, nil, nil
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(got.Manifest))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the manifest of %q: %w: no JSON of a manifest", ref, ErrUnreadable)
	}
	return got, manifest, nil
}

// collect reads pages until there are no more or they are too many.
func (l ListLimits) collect(more func() bool, next func() ([]string, error)) ([]string, error) {
	var all []string
	for page := 0; more(); page++ {
		if page == l.Pages {
			return all, ErrTooMany
		}
		names, err := next()
		if err != nil {
			return all, err
		}
		if free := l.Names - len(all); len(names) > free {
			return append(all, names[:free]...), ErrTooMany
		}
		all = append(all, names...)
	}
	return all, nil
}

func (p *Pusher) boundedOptions(ctx context.Context, l ListLimits) []remote.Option {
	inner := p.Transport
	if inner == nil {
		inner = DefaultTransport
	}
	return append(p.remoteOptions(ctx), remote.WithTransport(bounded{straight{inner}, l.AnswerBytes}))
}
