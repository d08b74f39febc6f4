// SPDX-License-Identifier: Apache-2.0

package containerd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/filters"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/image"
)

// blob is a layer's content.
var blob = bytes.Repeat([]byte("layer"), 1<<20)

func layer() image.Blob {
	return image.Blob{MediaType: "application/vnd.oci.image.layer.v1.tar+zstd", Digest: digest.FromBytes(blob).String(), Bytes: int64(len(blob))}
}

// store returns a client of a real content store, and that.
func store(t *testing.T) (*containerd.Client, content.Store) {
	t.Helper()
	s, err := local.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c, err := containerd.WithServices(client.WithContentStore(s))
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func opener(r io.Reader) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(r), nil }
}

func TestIngest(t *testing.T) {
	c, _ := store(t)
	if _, _, ok, err := c.Arrived(t.Context(), layer().Digest); ok || err != nil {
		t.Errorf("the layer is there before: %v, %v", ok, err)
	}
	for i, want := range []int64{layer().Bytes, 0} {
		if got, err := c.Ingest(t.Context(), layer(), opener(bytes.NewReader(blob))); err != nil || got != want {
			t.Errorf("time %d: %d bytes, %v; want %d", i+1, got, err, want)
		}
	}
	size, at, ok, err := c.Arrived(t.Context(), layer().Digest)
	if err != nil || !ok || size != layer().Bytes || time.Since(at) > time.Hour {
		t.Errorf("the layer has %d bytes since %v: %v, %v", size, at, ok, err)
	}
}

// TestIngestBrokenOff leaves what has come to whoever pulls the layer next, by the name that containerd's own pulls have for it.
func TestIngestBrokenOff(t *testing.T) {
	c, s := store(t)
	broken := io.MultiReader(bytes.NewReader(blob[:3<<20]), iotest.ErrReader(errors.New("the registry is gone")))
	if came, err := c.Ingest(t.Context(), layer(), opener(broken)); err == nil || came != 3<<20 {
		t.Errorf("%d bytes came, %v; want %d and an error", came, err, 3<<20)
	}
	pulls, err := c.Ingests(t.Context())
	if err != nil || len(pulls) != 1 || pulls[0].Digest != layer().Digest || pulls[0].Bytes != 3<<20 || time.Since(pulls[0].Since) > time.Hour {
		t.Fatalf("being pulled: %+v, %v", pulls, err)
	}
	w, err := content.OpenWriter(t.Context(), s, content.WithRef("layer-"+layer().Digest))
	if err != nil {
		t.Fatal(err)
	}
	// While the kubelet's pull has it, it is left alone.
	if came, err := c.Ingest(t.Context(), layer(), opener(bytes.NewReader(blob))); err != nil || came != 0 {
		t.Errorf("%d bytes came beside another pull, %v", came, err)
	}
	if status, err := w.Status(); err != nil || status.Offset != 3<<20 {
		t.Errorf("the next pull begins at %d, %v", status.Offset, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ingest(t.Context(), layer(), opener(bytes.NewReader(blob))); err != nil {
		t.Error(err)
	}
	if _, _, ok, err := c.Arrived(t.Context(), layer().Digest); !ok || err != nil {
		t.Errorf("the layer is there: %v, %v", ok, err)
	}
}

// TestIngestTakesNothingElse: the content is what the digest says, and no more of it is read than there is.
func TestIngestTakesNothingElse(t *testing.T) {
	other := append([]byte("X"), blob[1:]...)
	for name, r := range map[string]io.Reader{
		"another content": bytes.NewReader(other), "too long": io.MultiReader(bytes.NewReader(blob), bytes.NewReader(blob)),
		"too short": bytes.NewReader(blob[:100]), "nothing": bytes.NewReader(nil),
	} {
		c, _ := store(t)
		if came, err := c.Ingest(t.Context(), layer(), opener(r)); err == nil || came > int64(len(blob))+1 {
			t.Errorf("%s: %d bytes were taken, %v", name, came, err)
		}
		if _, _, ok, _ := c.Arrived(t.Context(), layer().Digest); ok {
			t.Errorf("%s: the layer is there", name)
		}
	}
	c, _ := store(t)
	refused := errors.New("unauthorized")
	_, err := c.Ingest(t.Context(), layer(), func(context.Context) (io.ReadCloser, error) { return nil, refused })
	if !errors.Is(err, refused) {
		t.Errorf("error %v, want %v", err, refused)
	}
}

// TestIngests are layers only, by whatever name they are pulled.
func TestIngests(t *testing.T) {
	c, s := store(t)
	for _, ref := range []string{"layer-sha256:aa", "layer-registry/app:1@sha256:bb", "manifest-sha256:cc", "cryopod-sha256:dd", "index-layer-sha256:ee"} {
		w, err := s.Writer(t.Context(), content.WithRef(ref))
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
	}
	pulls, err := c.Ingests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, p := range pulls {
		got[p.Digest] = true
	}
	if diff := cmp.Diff(map[string]bool{"sha256:aa": true, "sha256:bb": true}, got); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
}

// records are containers, filtered as containerd does.
type records struct {
	containers.Store
	all []containers.Container
}

func (r records) List(_ context.Context, by ...string) ([]containers.Container, error) {
	filter, err := filters.ParseAll(by...)
	if err != nil {
		return nil, err
	}
	var found []containers.Container
	for _, c := range r.all {
		adaptor := filters.AdapterFunc(func(path []string) (string, bool) {
			if len(path) == 2 && path[0] == "labels" {
				value, ok := c.Labels[path[1]]
				return value, ok
			}
			return "", false
		})
		if filter.Match(adaptor) {
			found = append(found, c)
		}
	}
	return found, nil
}

func TestRestoring(t *testing.T) {
	record := func(uid, kind, restoring string) containers.Container {
		l := labels(uid, "true")
		l["io.cri-containerd.kind"], l["checkpoint.io/restoring"] = kind, restoring
		return containers.Container{ID: uid + kind, Labels: l, CreatedAt: time.Unix(1, 0)}
	}
	c, err := containerd.WithServices(client.WithContainerStore(records{all: []containers.Container{
		record("1", "sandbox", "true"), record("1", "container", "true"), record("2", "sandbox", ""), record("3", "sandbox", "false"),
	}}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Restoring(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []containerd.Start{{UID: "1", Namespace: "ns", Name: "pod-1", Time: time.Unix(1, 0)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pods that are restored (-want +got):\n%s", diff)
	}
}
