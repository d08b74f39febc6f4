// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

var (
	// ErrDeleteUnsupported means that the registry does not delete manifests (for distribution: storage.delete.enabled is off), or not
	// this one (Harbor: its tag is immutable).
	ErrDeleteUnsupported = errors.New("registry does not delete images")

	// ErrDeleteDenied means that the credentials do not allow to delete.
	ErrDeleteDenied = errors.New("credentials do not allow to delete images")
)

// danglingTag is the code with which Google's registries refuse to delete a manifest that still has a tag.
const danglingTag transport.ErrorCode = "GOOGLE_MANIFEST_DANGLING_TAG"

// Delete removes the image that ref names, by tag or by digest: its manifest, and with it every tag that it has. An image that is
// not there is no error. A registry that does not delete is ErrDeleteUnsupported, one that these credentials may not delete in is
// ErrDeleteDenied. The registry frees the space when it collects garbage.
func (p *Pusher) Delete(ctx context.Context, ref string) error {
	r, err := name.ParseReference(ref, append(p.nameOptions(ref), name.StrictValidation)...)
	if err != nil {
		return fmt.Errorf("parsing image reference %q: %w", ref, err)
	}
	if err := p.remove(ctx, r); err != nil {
		return fmt.Errorf("deleting image %q: %w", ref, err)
	}
	return nil
}

// remove deletes by digest, because many registries know nothing else, and some take a tag's deletion for that of the tag alone. A tag
// that outlives its manifest, or keeps it from being deleted, is deleted too.
func (p *Pusher) remove(ctx context.Context, r name.Reference) error {
	tag, byTag := r.(name.Tag)
	if !byTag {
		_, err := p.removeOne(ctx, r)
		return err
	}
	digest, err := p.digestOf(ctx, tag)
	if err != nil || digest == "" {
		return err
	}
	accepted, err := p.removeManifest(ctx, tag, digest)
	if err != nil {
		return err
	}
	// One that was pushed meanwhile under the same tag is another image.
	left, err := p.digestOf(ctx, tag)
	if err != nil || left != digest {
		return err
	}
	tagAccepted, err := p.removeOne(ctx, tag)
	switch {
	case accepted && errors.Is(err, ErrDeleteUnsupported):
		return nil // its tags follow in time
	case err != nil || accepted || tagAccepted:
		return err
	}
	// Some registries answer a request that they don't know with 404, as if there were no image.
	if left, err = p.digestOf(ctx, tag); err != nil || left != digest {
		return err
	}
	return fmt.Errorf("%w: it does not know of an image that it has", ErrDeleteUnsupported)
}

// removeManifest deletes the manifest of a tag, after the tag where the registry wants that, and tells whether it was there to delete.
func (p *Pusher) removeManifest(ctx context.Context, tag name.Tag, digest string) (accepted bool, err error) {
	manifest := tag.Context().Digest(digest)
	accepted, err = p.removeOne(ctx, manifest)
	if !hasCode(err, danglingTag) {
		return accepted, err
	}
	if _, err := p.removeOne(ctx, tag); err != nil {
		return false, err
	}
	return p.removeOne(ctx, manifest)
}

// digestOf is the digest that the tag has, empty when there is no such tag.
func (p *Pusher) digestOf(ctx context.Context, tag name.Tag) (string, error) {
	head, err := remote.Head(tag, p.remoteOptions(ctx)...)
	switch {
	case isStatus(err, http.StatusNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("resolving tag: %w", explain(err))
	}
	return head.Digest.String(), nil
}

// removeOne tells whether there was something to delete, as far as the registry says.
func (p *Pusher) removeOne(ctx context.Context, r name.Reference) (accepted bool, err error) {
	err = remote.Delete(r, p.remoteOptions(ctx)...)
	switch {
	case err == nil:
		return true, nil
	case isStatus(err, http.StatusNotFound):
		return false, nil
	case isStatus(err, http.StatusMethodNotAllowed), isStatus(err, http.StatusNotImplemented), isStatus(err, http.StatusPreconditionFailed),
		hasCode(err, transport.UnsupportedErrorCode):
		return false, fmt.Errorf("%w: %w", ErrDeleteUnsupported, explain(err))
	case isStatus(err, http.StatusUnauthorized), isStatus(err, http.StatusForbidden), hasCode(err, transport.DeniedErrorCode):
		return false, fmt.Errorf("%w: %w", ErrDeleteDenied, explain(err))
	}
	return false, explain(err)
}

func isStatus(err error, code int) bool {
	e := (*transport.Error)(nil)
	return errors.As(err, &e) && e.StatusCode == code
}

func hasCode(err error, code transport.ErrorCode) bool {
	e := (*transport.Error)(nil)
	if !errors.As(err, &e) {
		return false
	}
	for _, d := range e.Errors {
		if d.Code == code {
			return true
		}
	}
	return false
}
