// SPDX-License-Identifier: Apache-2.0

package containerd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/imageindex"
)

// names are the records of an image store.
type names struct {
	images.Store
	all []images.Image
}

func (n names) List(context.Context, ...string) ([]images.Image, error) { return n.all, nil }

// put writes what is encoded into the store.
func put(t *testing.T, s content.Store, mediaType string, what any) ocispec.Descriptor {
	t.Helper()
	raw, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := content.WriteBlob(t.Context(), s, d.Digest.String(), bytes.NewReader(raw), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// manifest writes one of an image with that layer.
func manifest(t *testing.T, s content.Store, layer string, annotations map[string]string) ocispec.Descriptor {
	t.Helper()
	return put(t, s, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Annotations: annotations,
		Config: put(t, s, ocispec.MediaTypeImageConfig, map[string]string{"architecture": "amd64", "os": "linux", "author": layer}),
		Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.Digest(layer), Size: 7}},
	})
}

// TestListImages tells of each image once, by all names that a pod may give it, and of an image's repository, but not of a checkpoint's: what else is
// in there has none of its layers.
func TestListImages(t *testing.T) {
	_, s := store(t)
	first := manifest(t, s, "sha256:11", nil)
	second := manifest(t, s, "sha256:22", nil)
	checkpoint := manifest(t, s, "sha256:33", map[string]string{"org.criu.checkpoint.container.name": "main"})
	gone := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("gone"), Size: 4}
	c, err := containerd.WithServices(client.WithContentStore(s), client.WithImageStore(names{all: []images.Image{
		{Name: "reg.test:5000/team/app:v1", Target: first}, {Name: "reg.test:5000/team/app@" + first.Digest.String(), Target: first},
		{Name: "sha256:0123", Target: first}, {Name: "docker.io/library/app:v1", Target: first},
		{Name: "reg.test:5000/team/other@" + second.Digest.String(), Target: second},
		{Name: "reg.test:5000/checkpoints/ns:app-1.main", Target: checkpoint},
		{Name: "reg.test:5000/checkpoints/ns@" + checkpoint.Digest.String(), Target: checkpoint},
		{Name: "reg.test:5000/team/gone:v1", Target: gone},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.ListImages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	layers := func(digest string) []imageindex.Layer { return []imageindex.Layer{{Digest: digest, Bytes: 7}} }
	want := []imageindex.Image{
		{Digest: first.Digest.String(), Layers: layers("sha256:11"), Names: []string{
			"docker.io/library/app", "docker.io/library/app:v1", "reg.test:5000/team/app", "reg.test:5000/team/app:v1",
		}},
		{Digest: second.Digest.String(), Layers: layers("sha256:22"), Names: []string{"reg.test:5000/team/other"}},
		{Digest: checkpoint.Digest.String(), Layers: layers("sha256:33"), Names: []string{"reg.test:5000/checkpoints/ns:app-1.main"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
}
