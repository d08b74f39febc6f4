// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/cryopod/cryopod/test/e2e/image"
)

func TestWeigh(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/some/"
	light, err := image.WithFiles(empty.Image, map[string][]byte{"/file": []byte("content")})
	if err != nil {
		t.Fatal(err)
	}
	if err := image.Push(t.Context(), light, repository+"light:1"); err != nil {
		t.Fatal(err)
	}
	below := layersOf(t, repository+"light:1")
	tops := map[v1.Hash]bool{}
	for _, to := range []string{repository + "one:1", repository + "two:1"} {
		if err := image.Weigh(t.Context(), repository+"light:1", to, 2); err != nil {
			t.Fatal(err)
		}
		layers := layersOf(t, to)
		if len(layers) != len(below)+1 || layers[0].Digest != below[0].Digest {
			t.Fatalf("the layers are %v, want those of the light image, %v, and one more", layers, below)
		}
		top := layers[len(below)]
		tops[top.Digest] = true
		if top.Size < 2<<20 || top.Size > 2<<20+64<<10 {
			t.Errorf("the layer has %d bytes, want 2 MiB and little more", top.Size)
		}
	}
	if len(tops) != 2 {
		t.Error("two images share what no other is to have")
	}
}

// layersOf are those of an image in a registry, which has to be whole.
func layersOf(t *testing.T, ref string) []v1.Descriptor {
	t.Helper()
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(tag, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Errorf("image %q is not valid: %v", ref, err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Layers
}
