// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/cryopod/cryopod/pkg/archive/archivetest"
	"github.com/cryopod/cryopod/pkg/image"
)

// hostile is a registry that answers with what it is given, one answer after the other, and then with the last one for ever.
type hostile struct {
	answers []answer

	mu       sync.Mutex
	requests int
	leaked   string
}

// answer is what a registry says to one request.
type answer struct {
	status                int
	body                  string
	location, challenge   string
	link, digest, content string
}

const (
	registryHost = "registry.local"
	password     = "c4n4ry-password"
)

func (h *hostile) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20))
		_ = r.Body.Close()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.URL.Hostname() != registryHost && strings.Contains(r.Header.Get("Authorization"), base64.StdEncoding.EncodeToString([]byte("u:"+password))) &&
		!strings.HasPrefix(r.URL.RawQuery, "scope=") && !strings.Contains(r.URL.RawQuery, "service=") {
		h.leaked = r.URL.String()
	}
	a := h.answers[min(h.requests, len(h.answers)-1)]
	if h.requests++; h.requests > 2000 {
		return nil, io.ErrClosedPipe
	}
	header := http.Header{}
	for key, value := range map[string]string{
		"Location": a.location, "WWW-Authenticate": a.challenge, "Link": a.link, "Docker-Content-Digest": a.digest, "Content-Type": a.content,
	} {
		if value != "" {
			header.Set(key, value)
		}
	}
	return &http.Response{
		StatusCode: a.status, Status: fmt.Sprint(a.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header, Request: r,
		Body: io.NopCloser(strings.NewReader(a.body)), ContentLength: int64(len(a.body)),
	}, nil
}

// keys are credentials for the registry.
type keys struct{}

func (keys) Resolve(target authn.Resource) (authn.Authenticator, error) {
	if target.RegistryStr() == registryHost {
		return &authn.Basic{Username: "u", Password: password}, nil
	}
	return authn.Anonymous, nil
}

// FuzzRegistry: whatever a registry answers, each method ends, within bounds, with an error that may be shown or a result that makes sense; a
// registry's own words are in neither.
func FuzzRegistry(f *testing.F) {
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	digest := "sha256:" + strings.Repeat("a", 64)
	f.Add(200, "{}", "", "", "", digest, manifest, 200, `{"tags":["a.b","c"]}`, "")
	f.Add(401, `{"errors":[{"code":"c4n4ry","message":"c4n4ry"}]}`, "", `Bearer realm="http://token.local/x",service="c4n4ry"`, "", "", "", 200, `{"c4n4ry":1}`, "")
	f.Add(401, "", "", `Basic realm="c4n4ry"`, "", "", "", 307, "c4n4ry", "http://other.local/c4n4ry?sig=c4n4ry")
	f.Add(307, "", "http://169.254.169.254/latest/c4n4ry", "", "", "", "", 302, "", "/v2/")
	f.Add(200, `{"tags":["x"],"repositories":["checkpoints/a"]}`, "", "", "</v2/checkpoints/ns/tags/list?last=x>; rel=\"next\"", "", "", 200, "[", "")
	f.Add(200, `{"schemaVersion":2,"config":{"size":-9223372036854775808,"digest":"sha256:x"},"layers":[{"size":9223372036854775807},{"size":9}]}`,
		"", "", "", "", manifest, 404, "", "")
	f.Add(202, "", "http://registry.local/v2/checkpoints/ns/blobs/uploads/1?c4n4ry", "", "", "", "", 201, "c4n4ry", "ht tp://\x00")
	f.Add(500, "c4n4ry \x1b[31m", "", "", "", "", "", 503, "<html>c4n4ry", "")
	raw := archivetest.Tar(archivetest.Checkpoint()...)
	f.Fuzz(func(t *testing.T, status int, body, location, challenge, link, digest, content string, status2 int, body2, location2 string) {
		if status < 200 || status > 599 || status2 < 200 || status2 > 599 {
			return
		}
		answers := []answer{
			{status: status, body: body, location: location, challenge: challenge, link: link, digest: digest, content: content},
			{status: status2, body: body2, location: location2, link: link, digest: digest, content: content},
			{status: status, body: body2, location: location, link: link, digest: digest, content: content},
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		try := func(what string, do func(p *image.Pusher) error) {
			h := &hostile{answers: answers}
			p := &image.Pusher{
				Keychain: keys{}, Transport: h, Attempts: 2, Backoff: time.Nanosecond, Workers: 1,
				Lists: image.ListLimits{Names: 50, Pages: 5, AnswerBytes: 64 << 10, Timeout: time.Minute},
			}
			began := time.Now()
			err := do(p)
			if ctx.Err() != nil || time.Since(began) > time.Minute {
				t.Errorf("%s took %s", what, time.Since(began))
			}
			if h.requests > 100 {
				t.Errorf("%s made %d requests", what, h.requests)
			}
			if h.leaked != "" {
				t.Errorf("%s sent the credentials to %q", what, h.leaked)
			}
			if err != nil && !showable(err.Error()) {
				t.Errorf("%s failed with %q", what, err)
			}
		}
		const repository = registryHost + "/checkpoints/ns"
		try("push", func(p *image.Pusher) error {
			got, err := p.Push(ctx, image.Request{
				Archive:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
				Container: "app", Tag: repository + ":a.app", Origin: origin,
			})
			if err == nil && !strings.HasPrefix(got.Digest, repository+"@sha256:") {
				t.Errorf("pushed %q", got.Digest)
			}
			return err
		})
		try("tags", func(p *image.Pusher) error {
			tags, err := p.Tags(ctx, repository)
			if len(tags) > 50 {
				t.Errorf("%d tags", len(tags))
			}
			return err
		})
		try("repositories", func(p *image.Pusher) error {
			names, err := p.Repositories(ctx, registryHost+"/checkpoints")
			for _, n := range names {
				if n == "" || strings.Contains(n, "/") {
					t.Errorf("repository %q", n)
				}
			}
			return err
		})
		try("inspect", func(p *image.Pusher) error {
			got, err := p.Inspect(ctx, repository+":a.app")
			if err == nil && got != nil && got.Bytes < 0 {
				t.Errorf("image %+v", got)
			}
			return err
		})
		try("delete", func(p *image.Pusher) error { return p.Delete(ctx, repository+":a.app") })
	})
}

// showable tells whether the error is one that people may see: one line, of no great length, that has nothing of the registry's.
func showable(s string) bool {
	return len(s) <= 600 && utf8.ValidString(s) && !strings.Contains(s, "c4n4ry") && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// FuzzBaseConfig: of an image's configuration nothing is taken but its user and platform.
func FuzzBaseConfig(f *testing.F) {
	f.Add([]byte(`{"os":"linux","architecture":"amd64","config":{"User":"1000","Labels":{"a":"b"}}}`))
	f.Add([]byte("null"))
	f.Add([]byte(`{"config":null,"created":"c4n4ry"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := image.ParseBaseConfig(raw)
		if err != nil && got != (image.BaseConfig{}) {
			t.Errorf("got %+v and error %v", got, err)
		}
		if err != nil && strings.Contains(err.Error(), "c4n4ry") {
			t.Errorf("error %q", err)
		}
	})
}

// FuzzTag: a tag that has the form is made of the two names that are read from it, and is one that registries take.
func FuzzTag(f *testing.F) {
	f.Add("web-0-0123456789-1.app")
	f.Add("a.b.c")
	f.Add(".")
	f.Add(strings.Repeat("a", 63) + "." + strings.Repeat("b", 63))
	f.Fuzz(func(t *testing.T, text string) {
		checkpoint, container, ok := image.ParseTag(text)
		if !ok {
			return
		}
		if checkpoint+"."+container != text {
			t.Errorf("%q is of %q and %q", text, checkpoint, container)
		}
		if _, err := name.NewTag(image.Tag("r.example/c", "ns", checkpoint, container), name.StrictValidation); err != nil {
			t.Error(err)
		}
	})
}

// FuzzDockerConfig: credentials that can't be read are an error that does not quote them.
func FuzzDockerConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"registry.local":{"username":"u","password":"c4n4ry"}}}`))
	f.Add([]byte(`{"auths":{"https://registry.local/v1/":{"auth":"dTpjNG40cnk="}}}`))
	f.Add([]byte(`{"auths":{"registry.local":{"auth":"c4n4ry"}}}`))
	f.Add([]byte("c4n4ry"))
	dir := f.TempDir()
	target, err := name.NewRepository(registryHost + "/a/b")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := image.DockerConfig(dir).Resolve(target)
		if err != nil && !showable(err.Error()) {
			t.Errorf("error %q", err)
		}
		if err == nil && got == nil {
			t.Error("neither credentials nor an error")
		}
	})
}
