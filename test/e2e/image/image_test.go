// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/cryopod/cryopod/test/e2e/image"
)

func TestUnknownImage(t *testing.T) {
	_, err := image.Builder{CacheDir: t.TempDir()}.Build(t.Context(), "oracle")
	if !errors.Is(err, image.ErrUnknown) || !strings.Contains(err.Error(), image.Redis) {
		t.Errorf("error does not tell which images there are: %v", err)
	}
}

func TestPauseIsAProgramAlone(t *testing.T) {
	pause, err := image.Build(t.Context(), image.Pause)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(pause); err != nil {
		t.Errorf("the image is not valid: %v", err)
	}
	config, err := pause.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/pause"}, config.Config.Entrypoint); diff != "" {
		t.Errorf("entrypoint (-want +got):\n%s", diff)
	}
	var names []string
	for _, file := range topFiles(t, pause) {
		names = append(names, strings.Join(strings.Fields(file)[:3], " "))
	}
	if diff := cmp.Diff([]string{"5 0755 etc/", "0 0644 etc/passwd", "0 0755 pause", "5 1777 tmp/"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	again, err := image.Build(t.Context(), image.Pause)
	if err != nil {
		t.Fatal(err)
	}
	if digest(t, again) != digest(t, pause) {
		t.Error("two builds have two digests")
	}
}

func TestGoBinaryTellsWhatDoesNotCompile(t *testing.T) {
	_, err := image.GoBinary(t.Context(), "./test/e2e/image/missing", "missing")
	if err == nil || !strings.Contains(err.Error(), "missing") || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got error %v", err)
	}
}

func TestWithFiles(t *testing.T) {
	added, err := image.WithFiles(empty.Image, map[string][]byte{"/b/run.py": []byte("2"), "/a.js": []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"0 0755 a.js 1", "0 0755 b/run.py 2"}, topFiles(t, added)); diff != "" {
		t.Errorf("layer (-want +got):\n%s", diff)
	}
	if _, err := image.WithFiles(empty.Image, map[string][]byte{"run.py": nil}); err == nil {
		t.Error("a relative path was accepted")
	}
}

func TestPushWritesOnce(t *testing.T) {
	var writes atomic.Int32
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			writes.Add(1)
		}
		handler.ServeHTTP(w, r)
	}))
	defer server.Close()
	img, err := image.WithFiles(empty.Image, map[string][]byte{"/file": []byte("content")})
	if err != nil {
		t.Fatal(err)
	}
	ref := strings.TrimPrefix(server.URL, "http://") + "/some/repo:tag"
	if err := image.Push(t.Context(), img, ref); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := remote.Image(tag)
	if err != nil {
		t.Fatal(err)
	}
	if digest(t, pushed) != digest(t, img) {
		t.Error("another image is there than was pushed")
	}
	if err := validate.Image(pushed); err != nil {
		t.Errorf("what was pushed is not valid: %v", err)
	}

	before := writes.Load()
	if err := image.Push(t.Context(), img, ref); err != nil {
		t.Fatal(err)
	}
	if again := writes.Load() - before; before == 0 || again != 0 {
		t.Errorf("pushing wrote %d times at first and %d times again", before, again)
	}
}

func TestPushRefusesNames(t *testing.T) {
	if err := image.Push(t.Context(), empty.Image, "127.0.0.1:5000/Not A Name"); err == nil {
		t.Error("a broken name was accepted")
	}
}
