// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/cryopod/cryopod/pkg/image"
)

func TestDockerConfig(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte("robot:s3cret"))
	const both = `{"auths":{"r.example":{"username":"all","password":"1"},"r.example/team":{"username":"team","password":"2"}}}`
	tests := map[string]struct {
		file, content, repository string
		want                      authn.AuthConfig
		fails                     bool
	}{
		"no file":             {repository: "r.example/a"},
		"user and password":   {file: "config.json", content: `{"auths":{"r.example":{"auth":"` + auth + `"}}}`, repository: "r.example/a", want: authn.AuthConfig{Username: "robot", Password: "s3cret"}},
		"secret's key":        {file: ".dockerconfigjson", content: `{"auths":{"r.example":{"auth":"` + auth + `"}}}`, repository: "r.example/a", want: authn.AuthConfig{Username: "robot", Password: "s3cret"}},
		"another registry":    {file: "config.json", content: both, repository: "other.example/team"},
		"longest path counts": {file: "config.json", content: both, repository: "r.example/team/app", want: authn.AuthConfig{Username: "team", Password: "2"}},
		"path of another":     {file: "config.json", content: both, repository: "r.example/teams/app", want: authn.AuthConfig{Username: "all", Password: "1"}},
		"docker's own form":   {file: "config.json", content: `{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"p"}}}`, repository: "someone/app", want: authn.AuthConfig{Username: "u", Password: "p"}},
		"not JSON":            {file: "config.json", content: `s3cret`, repository: "r.example/a", fails: true},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			dir := t.TempDir()
			if tt.file != "" {
				if err := os.WriteFile(filepath.Join(dir, tt.file), []byte(tt.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			repository, err := name.NewRepository(tt.repository)
			if err != nil {
				t.Fatal(err)
			}
			found, err := image.DockerConfig(dir).Resolve(repository)
			if (err != nil) != tt.fails {
				t.Fatalf("got error %v, want one: %v", err, tt.fails)
			}
			if err != nil {
				if strings.Contains(err.Error(), "s3cret") {
					t.Errorf("error %q tells a secret", err)
				}
				return
			}
			got, err := found.Authorization()
			if err != nil {
				t.Fatal(err)
			}
			got.Auth = ""
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Errorf("credentials (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseBaseConfig(t *testing.T) {
	got, err := image.ParseBaseConfig([]byte(`{"architecture":"arm64","variant":"v8","os":"linux","config":{"User":"1000:1000","Env":["A=b"]}}`))
	want := image.BaseConfig{User: "1000:1000", OS: "linux", Architecture: "arm64", Variant: "v8"}
	if err != nil || got != want {
		t.Errorf("got %+v and error %v, want %+v", got, err, want)
	}
	if _, err := image.ParseBaseConfig([]byte("no")); err == nil {
		t.Error("got no error of what is no configuration")
	}
}
