// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/cryopod/cryopod/pkg/archive/archivetest"
	"github.com/cryopod/cryopod/pkg/image"
)

// TestFetch reads the layer of a pushed image back, and no other image.
func TestFetch(t *testing.T) {
	reg := newRegistry(t)
	p := &image.Pusher{Insecure: true}
	tag := reg.host + "/x/shop:cart-1.app"
	pushed, err := p.Push(t.Context(), image.Request{
		Archive: opener(archivetest.Tar(archivetest.Checkpoint()...)), Container: "app", Tag: tag,
	})
	if err != nil {
		t.Fatal(err)
	}
	layers, err := p.Layers(t.Context(), tag)
	if err != nil || len(layers) != 1 || !strings.Contains(layers[0].MediaType, "zstd") {
		t.Fatalf("layers %v, %v; want one of zstd", layers, err)
	}
	if byDigest, err := p.Layers(t.Context(), pushed.Digest); err != nil || cmp.Diff(layers, byDigest) != "" {
		t.Errorf("by its digest it has layers %v, %v", byDigest, err)
	}
	r, err := p.Open(t.Context(), tag, layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || int64(len(raw)) != layers[0].Bytes || digest.FromBytes(raw).String() != layers[0].Digest {
		t.Errorf("read %d bytes, %v; want %d of %s", len(raw), err, layers[0].Bytes, layers[0].Digest)
	}

	ordinary, err := name.ParseReference(reg.host+"/x/shop:ordinary", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ordinary, empty.Image); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{reg.host + "/x/shop:none", ordinary.String(), "?"} {
		if layers, err := p.Layers(t.Context(), ref); err == nil {
			t.Errorf("%s has layers %v, want an error", ref, layers)
		}
	}
	if _, err := p.Open(t.Context(), tag, "sha256:"+strings.Repeat("0", 64)); err == nil {
		t.Error("a layer that is not there was opened")
	}
}

// TestFetchEnds stops when its context does.
func TestFetchEnds(t *testing.T) {
	reg := newRegistry(t)
	ctx, cancel := context.WithCancel(t.Context())
	reg.inject(fault{method: http.MethodGet, path: "/blobs/", times: 1, stall: cancel})
	p := &image.Pusher{Insecure: true}
	if _, err := p.Open(ctx, reg.host+"/x/shop:cart-1.app", "sha256:"+strings.Repeat("0", 64)); err == nil {
		t.Error("opened, want an error")
	}
}
