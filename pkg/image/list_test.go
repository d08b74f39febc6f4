// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cryopod/cryopod/pkg/archive/archivetest"
	"github.com/cryopod/cryopod/pkg/image"
)

func TestTag(t *testing.T) {
	if got, want := image.Tag("r.io/x", "shop", "cart-1", "app"), "r.io/x/shop:cart-1.app"; got != want {
		t.Errorf("Tag = %q, want %q", got, want)
	}
	for tag, want := range map[string][]string{
		"cart-0a1b2c3d4e-1.app": {"cart-0a1b2c3d4e-1", "app"},
		"db.v1-0a1b2c3d4e-2.db": {"db.v1-0a1b2c3d4e-2", "db"},
		"latest":                nil,
		"v1.":                   nil,
		".app":                  nil,
		"Cart.app":              nil,
		"cart.App":              nil,
		"cart_1.app":            nil,
		"-.app":                 nil,
		"":                      nil,
	} {
		checkpoint, container, ok := image.ParseTag(tag)
		if ok != (want != nil) || ok && !cmp.Equal([]string{checkpoint, container}, want) {
			t.Errorf("ParseTag(%q) = %q, %q, %v; want %q", tag, checkpoint, container, ok, want)
		}
	}
}

// TestLists looks at a real registry.
func TestLists(t *testing.T) {
	reg := newRegistry(t)
	p := &image.Pusher{Insecure: true}
	raw := archivetest.Tar(archivetest.Checkpoint()...)
	var pushed image.Result
	for _, ref := range []string{"x/shop:cart-1.app", "x/shop:cart-2.app", "x/bank:till-1.app", "x:root", "x/a/b:deep", "y/shop:other"} {
		var err error
		pushed, err = p.Push(t.Context(), image.Request{
			Archive: opener(raw), Container: "app", Tag: reg.host + "/" + ref, Origin: image.Origin{Cluster: "c1", Namespace: "shop", CheckpointedAt: archivetest.Time},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tags, err := p.Tags(t.Context(), reg.host+"/x/shop")
	if diff := cmp.Diff([]string{"cart-1.app", "cart-2.app"}, tags); err != nil || diff != "" {
		t.Errorf("Tags: %v (-want +got):\n%s", err, diff)
	}
	if tags, err := p.Tags(t.Context(), reg.host+"/x/none"); err != nil || tags != nil {
		t.Errorf("Tags of a repository that does not exist = %v, %v", tags, err)
	}
	repos, err := p.Repositories(t.Context(), reg.host+"/x")
	if diff := cmp.Diff([]string{"bank", "shop"}, repos, cmpopts.SortSlices(strings.Compare)); err != nil || diff != "" {
		t.Errorf("Repositories: %v (-want +got):\n%s", err, diff)
	}
	repos, err = p.Repositories(t.Context(), reg.host)
	if diff := cmp.Diff([]string{"x"}, repos); err != nil || diff != "" {
		t.Errorf("Repositories of the whole registry: %v (-want +got):\n%s", err, diff)
	}
	got, err := p.Inspect(t.Context(), reg.host+"/x/shop:cart-1.app")
	want := &image.Stored{
		Digest: pushed.Digest[strings.IndexByte(pushed.Digest, '@')+1:], Bytes: pushed.PushedBytes, Created: archivetest.Time.UTC(),
		Container: "app", Namespace: "shop", Cluster: "c1",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Inspect: %v (-want +got):\n%s", err, diff)
	}
	if got, err := p.Inspect(t.Context(), reg.host+"/x/shop:none.app"); err != nil || got != nil {
		t.Errorf("Inspect of an image that is not there = %v, %v", got, err)
	}
}

// names are page's of a list that never ends.
func names(page, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%d-%d.app", page, i)
	}
	return all
}

// TestListsOfHostileRegistries wants each to end, soon and in little memory.
func TestListsOfHostileRegistries(t *testing.T) {
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	page := 0
	limits := image.ListLimits{Names: 100, Pages: 20, AnswerBytes: 64 << 10, Timeout: 300 * time.Millisecond}
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter, req *http.Request)
		want   error
		names  int
		text   string
	}{
		"pages without end": {
			answer: func(w http.ResponseWriter, req *http.Request) {
				page++
				w.Header().Set("Link", fmt.Sprintf(`<%s?last=%d>; rel="next"`, req.URL.Path, page))
				list(w, names(page, 1))
			},
			want: image.ErrTooMany, names: 20,
		},
		"the same page again and again": {
			answer: func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Link", `<`+req.URL.String()+`>; rel="next"`)
				list(w, names(0, 30))
			},
			want: image.ErrTooMany, names: 100,
		},
		"a long list": {
			answer: func(w http.ResponseWriter, _ *http.Request) { list(w, names(0, 1000)) },
			want:   image.ErrTooMany, names: 100,
		},
		"an answer without end": {
			answer: func(w http.ResponseWriter, req *http.Request) {
				_, _ = io.WriteString(w, `{"tags":["`)
				for req.Context().Err() == nil {
					if _, err := io.WriteString(w, strings.Repeat("a", 4096)); err != nil {
						return
					}
				}
			},
			text: "answer is too large",
		},
		"silence": {
			answer: func(_ http.ResponseWriter, req *http.Request) {
				select {
				case <-over:
				case <-req.Context().Done():
				}
			},
			want: context.DeadlineExceeded,
		},
		"another host's next page": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Link", `<http://metadata.test/v2/x/tags/list>; rel="next"`)
				list(w, names(0, 1))
			},
			text: "answers what no registry should",
		},
		"no JSON":      {answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, text: "answers what no registry should"},
		"out of order": {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, text: "502"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path != "/v2/" {
					tc.answer(w, req)
				}
			}))
			t.Cleanup(server.Close)
			tags, err := (&image.Pusher{Lists: limits}).Tags(t.Context(), strings.TrimPrefix(server.URL, "http://")+"/x/shop")
			if err == nil || !errors.Is(err, tc.want) && tc.want != nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got error %v, want %v with %q", err, tc.want, tc.text)
			}
			if len(tags) != tc.names {
				t.Errorf("got %d tags, want %d", len(tags), tc.names)
			}
		})
	}
}

func list(w http.ResponseWriter, tags []string) {
	_, _ = fmt.Fprintf(w, `{"name":"x","tags":["%s"],"repositories":["%[1]s"]}`, strings.Join(tags, `","`))
}

// TestRepositoriesUnsupported is what most registries that people pay for answer.
func TestRepositoriesUnsupported(t *testing.T) {
	for _, status := range []int{401, 403, 404, 405, 501} {
		reg := newRegistry(t)
		reg.inject(fault{method: http.MethodGet, path: "/_catalog", times: 9, status: status})
		if _, err := (&image.Pusher{}).Repositories(t.Context(), reg.host+"/x"); !errors.Is(err, image.ErrListUnsupported) {
			t.Errorf("for %d the error is %v", status, err)
		}
		reg.inject(fault{method: http.MethodGet, path: "/tags/list", times: 9, status: status})
		_, err := (&image.Pusher{}).Tags(t.Context(), reg.host+"/x")
		if want := status != http.StatusNotFound; errors.Is(err, image.ErrListUnsupported) != want {
			t.Errorf("for %d of the tags the error is %v", status, err)
		}
	}
}

// TestInspectForeign reads manifests that are not ours.
func TestInspectForeign(t *testing.T) {
	for name, tc := range map[string]struct {
		mediaType, manifest string
		fails               bool
	}{
		"an index":    {mediaType: "application/vnd.oci.image.index.v1+json", manifest: `{"schemaVersion":2,"manifests":[]}`},
		"annotations": {mediaType: "application/vnd.oci.image.manifest.v1+json", manifest: `{"annotations":{"org.opencontainers.image.created":"yesterday"},"config":{"size":-5},"layers":[{"size":-7}]}`},
		"no JSON":     {mediaType: "application/vnd.oci.image.manifest.v1+json", manifest: `{`, fails: true},
		"huge":        {mediaType: "application/vnd.oci.image.manifest.v1+json", manifest: `{"x":"` + strings.Repeat("x", 1<<20) + `"}`, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path != "/v2/" {
					w.Header().Set("Content-Type", tc.mediaType)
					_, _ = io.WriteString(w, tc.manifest)
				}
			}))
			t.Cleanup(server.Close)
			p := &image.Pusher{Lists: image.ListLimits{AnswerBytes: 1 << 16}}
			got, err := p.Inspect(t.Context(), strings.TrimPrefix(server.URL, "http://")+"/x/shop:a.b")
			if (err != nil) != tc.fails || err != nil && !errors.Is(err, image.ErrUnreadable) {
				t.Fatalf("got error %v, want ErrUnreadable: %v", err, tc.fails)
			}
			want := &image.Stored{Bytes: int64(len(tc.manifest))}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(image.Stored{}, "Digest")); err == nil && diff != "" {
				t.Errorf("Inspect (-want +got):\n%s", diff)
			}
		})
	}
}
