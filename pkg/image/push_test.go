// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/cryopod/cryopod/pkg/archive"
	"github.com/cryopod/cryopod/pkg/archive/archivetest"
	"github.com/cryopod/cryopod/pkg/image"
)

func opener(raw []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
}

// noGoroutineLeft fails the test if a goroutine of package image is still there. Push waits for its own, so there is nothing to wait for.
func noGoroutineLeft(t *testing.T) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "pkg/image.") && !strings.Contains(g, "pkg/image_test.") {
			t.Errorf("a goroutine is left:\n%s", g)
		}
	}
}

var origin = image.Origin{
	Cluster: "c1", Namespace: "team-a", Pod: "web-0", PodUID: "u1", Image: "web:1", ImageRef: "web@sha256:aa", CRIUVersion: "4.2.1",
	ContainerID: archivetest.ContainerID, CheckpointedAt: archivetest.Time,
}

func TestPush(t *testing.T) {
	reg := newRegistry(t)
	heap := archivetest.Heap(5<<20+123, 2)
	raw := archivetest.Tar(archivetest.Checkpoint(archivetest.File("checkpoint/pages-2.img", string(heap)))...)
	for _, workers := range []int{0, 1, 3} {
		p := &image.Pusher{Workers: workers}
		tag := reg.host + "/checkpoints/team-a:web-0.app"
		got, err := p.Push(t.Context(), image.Request{
			Archive:   opener(raw),
			Container: "app",
			Tag:       tag,
			Base:      image.BaseConfig{User: "65532", OS: "linux", Architecture: "arm64", Variant: "v8"},
			Origin:    origin,
		})
		if err != nil {
			t.Fatal(err)
		}
		noGoroutineLeft(t)

		ref, err := name.ParseReference(got.Digest)
		if err != nil {
			t.Fatalf("parsing %q: %v", got.Digest, err)
		}
		img, err := remote.Image(ref)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, img, raw)
		if head, err := remote.Head(mustTag(t, tag)); err != nil || head.Digest.String() != ref.Identifier() {
			t.Errorf("tag %q resolves to %v (%v), want %v", tag, head, err, ref.Identifier())
		}
		size, _ := img.Size()
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if want := size + manifest.Config.Size + manifest.Layers[0].Size; got.PushedBytes != want {
			t.Errorf("pushed bytes are %d, want %d", got.PushedBytes, want)
		}
		if got.ArchiveBytes < int64(len(heap)) || got.Metadata.ContainerID != "c1" || got.Duration <= 0 {
			t.Errorf("result lacks something: %+v", got)
		}
	}
}

func mustTag(t *testing.T, s string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(s)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

// checkImage checks what a runtime relies on.
func checkImage(t *testing.T, img v1.Image, raw []byte) {
	t.Helper()
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.MediaType != types.OCIManifestSchema1 || len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != types.OCILayerZStd {
		t.Errorf("unexpected form of manifest: %+v", manifest)
	}
	wantAnnotations := map[string]string{
		"checkpoint.io/cluster":                           "c1",
		"org.opencontainers.image.created":                "2026-03-04T05:06:07Z",
		"org.criu.checkpoint.container.name":              "app",
		"io.kubernetes.cri-o.annotations.checkpoint.name": "app",
		"org.criu.checkpoint.pod.namespace":               "team-a",
		"org.criu.checkpoint.pod.name":                    "web-0",
		"org.criu.checkpoint.pod.uid":                     "u1",
		"org.criu.checkpoint.criu.version":                "4.2.1",
		"org.criu.checkpoint.rootfsImageUserRequested":    "web:1",
		"org.criu.checkpoint.rootfsImageName":             "web@sha256:aa",
	}
	if diff := cmp.Diff(wantAnnotations, manifest.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532" || config.OS != "linux" || config.Architecture != "arm64" || config.Variant != "v8" {
		t.Errorf("configuration does not keep the base image's user and platform: %+v", config)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	var want, got bytes.Buffer
	identity := archive.Identity{
		ID: "c1", Name: "app", Namespace: "team-a", Pod: "web-0", PodUID: "u1", BaseImage: "web:1", BaseImageRef: "web@sha256:aa",
		CheckpointedAt: archivetest.Time,
	}
	if _, err := archive.Copy(&want, bytes.NewReader(raw), identity, archive.Limits{}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(&got, plain); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want.Bytes(), got.Bytes()) {
		t.Error("the layer does not hold the archive")
	}
	diffID, _, err := v1.SHA256(bytes.NewReader(got.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if config.RootFS.DiffIDs[0] != diffID {
		t.Errorf("diff ID is %v, want %v", config.RootFS.DiffIDs[0], diffID)
	}
}

func TestPushTriesAgain(t *testing.T) {
	tests := map[string]struct {
		fault    fault
		attempts int
		opens    int32
		fails    bool
	}{
		"upload refused once":             {fault: fault{method: http.MethodPatch, times: 1, status: 503}, opens: 2},
		"upload refused twice":            {fault: fault{method: http.MethodPatch, times: 2, status: 502}, opens: 3},
		"too many requests":               {fault: fault{method: http.MethodPost, times: 1, status: 429}, opens: 1},
		"connection broken in the upload": {fault: fault{method: http.MethodPatch, times: 1, hangUp: true}, opens: 2},
		"manifest refused once":           {fault: fault{method: http.MethodPut, path: "/manifests/", times: 1, status: 500}, opens: 2},
		"out of order for good":           {fault: fault{method: http.MethodPatch, times: 99, status: 503}, opens: 3, fails: true},
		"one attempt only":                {fault: fault{method: http.MethodPatch, times: 1, status: 503}, attempts: 1, opens: 1, fails: true},
		"not allowed":                     {fault: fault{method: http.MethodPost, times: 1, status: 403}, opens: 0, fails: true},
	}
	raw := archivetest.Tar(archivetest.Checkpoint(archivetest.File("checkpoint/p", string(archivetest.Heap(3<<20, 4))))...)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reg := newRegistry(t)
			reg.inject(tt.fault)
			var opens, open atomic.Int32
			p := &image.Pusher{Attempts: tt.attempts, Backoff: time.Microsecond}
			_, err := p.Push(t.Context(), image.Request{
				Archive: func() (io.ReadCloser, error) {
					opens.Add(1)
					open.Add(1)
					return &tracked{Reader: bytes.NewReader(raw), open: &open}, nil
				},
				Container: "app",
				Tag:       reg.host + "/a:b",
			})
			if (err != nil) != tt.fails {
				t.Errorf("got error %v, want one: %v", err, tt.fails)
			}
			if opens.Load() != tt.opens || open.Load() != 0 {
				t.Errorf("archive was opened %d times, want %d; left open: %d", opens.Load(), tt.opens, open.Load())
			}
			noGoroutineLeft(t)
		})
	}
}

// tracked counts itself out of open at its first Close.
type tracked struct {
	io.Reader
	open   *atomic.Int32
	closed atomic.Bool
}

func (c *tracked) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.open.Add(-1)
	}
	return nil
}

func TestPushRefuses(t *testing.T) {
	gone := errors.New("file is gone")
	tests := map[string]struct {
		archive func() (io.ReadCloser, error)
		tag     string
		want    error
	}{
		"evil archive":   {archive: opener(archivetest.Tar(archivetest.Checkpoint(archivetest.File("../x", ""))...)), want: archive.ErrName},
		"no checkpoint":  {archive: opener(archivetest.Tar(archivetest.File("x", ""))), want: archive.ErrIncomplete},
		"cut off":        {archive: opener(archivetest.Tar(archivetest.Checkpoint()...)[:4000]), want: archive.ErrMalformed},
		"can't open":     {archive: func() (io.ReadCloser, error) { return nil, gone }, want: gone},
		"too large":      {archive: opener(archivetest.Tar(archivetest.Checkpoint(archivetest.File("p", string(make([]byte, 1<<20))))...)), want: archive.ErrTooLarge},
		"malformed name": {tag: "registry.example/UPPER:x"},
		"no tag":         {tag: "registry.example/app"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reg := newRegistry(t)
			if tt.tag == "" {
				tt.tag = reg.host + "/a:b"
			}
			p := &image.Pusher{Backoff: time.Microsecond, Limits: archive.Limits{Bytes: 1 << 20}}
			_, err := p.Push(t.Context(), image.Request{Archive: tt.archive, Container: "app", Tag: tt.tag})
			if err == nil || !errors.Is(err, tt.want) && tt.want != nil {
				t.Errorf("got error %v, want %v", err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), tt.tag) {
				t.Errorf("error %q does not name %q", err, tt.tag)
			}
			if reg.manifests() != 0 {
				t.Error("a manifest was pushed")
			}
			noGoroutineLeft(t)
		})
	}
}

// TestPushStops cancels while the archive's reader blocks, as one of a stalled disk would.
func TestPushStops(t *testing.T) {
	reg := newRegistry(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("deadline of the pod is over")
	raw := archivetest.Tar(archivetest.Checkpoint(archivetest.File("checkpoint/p", string(archivetest.Heap(3<<20, 4))))...)
	_, err := (&image.Pusher{}).Push(ctx, image.Request{
		Archive: func() (io.ReadCloser, error) {
			stalled, w := io.Pipe()
			go func() {
				_, _ = w.Write(raw[:len(raw)/2])
				cancel(reason)
			}()
			return stalled, nil
		},
		Container: "app",
		Tag:       reg.host + "/a:b",
	})
	if !errors.Is(err, reason) {
		t.Errorf("got error %v, want %v", err, reason)
	}
	noGoroutineLeft(t)
}

// TestPushStopsAtAStalledRegistry cancels while the registry reads nothing.
func TestPushStopsAtAStalledRegistry(t *testing.T) {
	reg := newRegistry(t)
	ctx, cancel := context.WithCancel(t.Context())
	reg.inject(fault{method: http.MethodPatch, times: 1, stall: cancel})
	raw := archivetest.Tar(archivetest.Checkpoint(archivetest.File("checkpoint/p", string(archivetest.Heap(16<<20, 8))))...)
	_, err := (&image.Pusher{}).Push(ctx, image.Request{Archive: opener(raw), Container: "app", Tag: reg.host + "/a:b"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	noGoroutineLeft(t)
}
