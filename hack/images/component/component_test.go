// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"archive/tar"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/cryopod/cryopod/hack/images/component"
)

// module makes a small module with a component in it and changes into it.
func module(t *testing.T) component.Component {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":             "module example.test/m\n\ngo 1.26\n",
		"cmd/little/main.go": "package main\n\nfunc main() { println(\"little\") }\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	return component.Component{Name: "little", User: "65532"}
}

func push(t *testing.T, host string, c component.Component, platforms ...v1.Platform) name.Digest {
	t.Helper()
	built, err := component.Build(t.Context(), c, []byte("PEM"), platforms)
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := component.Target{}.Push(t.Context(), host+"/cryopod/little:v1", built)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := name.NewDigest(pushed)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func newRegistry(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func TestImage(t *testing.T) {
	c, host := module(t), newRegistry(t)
	amd := v1.Platform{OS: "linux", Architecture: "amd64"}
	digest := push(t, host, c, amd)
	if again := push(t, host, c, amd); again != digest {
		t.Errorf("the same source made %v, then %v", digest, again)
	}
	img, err := remote.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532" || config.Architecture != "amd64" || config.OS != "linux" {
		t.Errorf("unexpected configuration: %+v", config)
	}
	if diff := cmp.Diff([]string{"/little"}, config.Config.Entrypoint); diff != "" {
		t.Errorf("entry point (-want +got):\n%s", diff)
	}
	got := map[string]string{}
	content := mutate.Extract(img)
	defer content.Close()
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = fmt.Sprintf("%o", h.Mode)
	}
	want := map[string]string{
		"etc": "755", "etc/passwd": "644", "etc/ssl": "755", "etc/ssl/certs": "755", "etc/ssl/certs/ca-certificates.crt": "644",
		"tmp": "1777", "little": "755",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestImageOfSeveralPlatforms(t *testing.T) {
	c, host := module(t), newRegistry(t)
	digest := push(t, host, c, v1.Platform{OS: "linux", Architecture: "amd64"}, v1.Platform{OS: "linux", Architecture: "arm64"})
	arm, err := remote.Image(digest, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "arm64"}))
	if err != nil {
		t.Fatal(err)
	}
	config, err := arm.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != "arm64" {
		t.Errorf("got the image of %q, want arm64", config.Architecture)
	}
}

func TestBuildTellsTheCompilersError(t *testing.T) {
	c := module(t)
	if err := os.WriteFile("cmd/little/main.go", []byte("package main\n\nfunc main() { nonsense }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := component.Build(t.Context(), c, nil, []v1.Platform{{OS: "linux", Architecture: "amd64"}})
	if err == nil || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("got error %v, want the compiler's", err)
	}
}
