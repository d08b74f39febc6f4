// SPDX-License-Identifier: Apache-2.0

package export_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/agent/source"
	"github.com/cryopod/cryopod/pkg/archive"
	"github.com/cryopod/cryopod/pkg/image"
)

// TestCVE20250426ArchivesAreGone: whoever asked a kubelet for checkpoints could fill the node's disk, since nobody removes the archives. An export
// removes its own however it ends.
func TestCVE20250426ArchivesAreGone(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		registry pushing
		ctx      context.Context
		part     func(*source.Part)
		image    string
	}{
		"it is pushed":           {registry: func(image.Request) error { return nil }},
		"the registry fails":     {registry: func(image.Request) error { return errors.New("away") }},
		"the archive is refused": {registry: func(r image.Request) error { return read(r) }},
		"it is called off":       {registry: func(image.Request) error { return context.Canceled }, ctx: cancelled},
		"the image is no image":  {image: "{", registry: func(image.Request) error { return nil }},
		"the image is not known": {part: func(p *source.Part) { p.Pod.Status.ContainerStatuses = nil }, registry: func(image.Request) error { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			e, dir := exporter(t, &registry{})
			e.Registry = tc.registry
			if tc.image != "" {
				e.Images = images{tc.image}
			}
			path := write(t, filepath.Join(dir, "checkpoint-web_ns-app-2026-01-02T03:04:05Z.tar"))
			part := source.Part{
				Checkpoint: types.NamespacedName{Namespace: "ns", Name: "pc-1"}, BaseImage: "busybox", Archive: path,
				Pod: podOf("web"), Container: fence.Container{Name: "app", ID: "abc"},
			}
			if tc.part != nil {
				tc.part(&part)
			}
			ctx := tc.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			_, _ = e.Export(ctx, part)
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left %v (%v)", left, err)
			}
		})
	}
}

// pushing is a registry that does that with each push.
type pushing func(r image.Request) error

func (f pushing) Push(_ context.Context, r image.Request) (image.Result, error) {
	return image.Result{Digest: "reg/ns@sha256:1"}, f(r)
}

func (pushing) Delete(context.Context, string) error { return nil }

func read(r image.Request) error {
	f, err := r.Archive()
	if err != nil {
		return err
	}
	_, err = archive.Copy(io.Discard, f, archive.Identity{}, archive.Limits{})
	return errors.Join(err, f.Close())
}

// TestArchiveThatIsNone: what lies under an archive's name in the kubelet's directory is opened only if it is a file, and there.
func TestArchiveThatIsNone(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(secret, []byte("c4n4ry"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, place := range map[string]func(path string) error{
		"a link":      func(path string) error { return os.Symlink(secret, path) },
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			var content []byte
			e, dir := exporter(t, &registry{})
			e.Registry = pushing(func(r image.Request) error {
				f, err := r.Archive()
				if err != nil {
					return err
				}
				defer func() { _ = f.Close() }()
				content, err = io.ReadAll(f)
				return err
			})
			path := filepath.Join(dir, "checkpoint-web_ns-app-2026-01-02T03:04:05Z.tar")
			if err := place(path); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := e.Export(t.Context(), source.Part{Archive: path, Pod: podOf("web"), Container: fence.Container{Name: "app", ID: "abc"}})
				done <- err
			}()
			select {
			case err := <-done:
				if err == nil || bytes.Contains(content, []byte("c4n4ry")) {
					t.Errorf("Export = %v, read %q", err, content)
				}
			case <-time.After(time.Minute):
				t.Fatal("it waits for the pipe")
			}
			if _, err := os.Stat(secret); err != nil {
				t.Errorf("what the link leads to: %v", err)
			}
		})
	}
}
