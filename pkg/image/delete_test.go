// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/cryopod/cryopod/pkg/archive/archivetest"
	"github.com/cryopod/cryopod/pkg/image"
)

func TestDelete(t *testing.T) {
	byTag := func(tag, _ string) string { return tag }
	byDigest := func(_, digest string) string { return digest }
	raw := archivetest.Tar(archivetest.Checkpoint()...)
	tests := map[string]struct {
		fault fault
		by    func(tag, digest string) string
		want  error
		left  int
	}{
		"by digest":        {by: byDigest},
		"by tag":           {by: byTag},
		"already gone":     {by: func(tag, _ string) string { return strings.Replace(tag, ":one", ":two", 1) }, left: 1},
		"no such digest":   {by: func(_, digest string) string { return digest[:len(digest)-4] + "0000" }, left: 1},
		"not supported":    {by: byDigest, fault: fault{method: http.MethodDelete, times: 9, status: 405}, want: image.ErrDeleteUnsupported, left: 1},
		"unsupported code": {by: byDigest, fault: fault{method: http.MethodDelete, times: 9, status: 400, code: "UNSUPPORTED"}, want: image.ErrDeleteUnsupported, left: 1},
		"not implemented":  {by: byTag, fault: fault{method: http.MethodDelete, times: 9, status: 501}, want: image.ErrDeleteUnsupported, left: 1},
		"not known":        {by: byTag, fault: fault{method: http.MethodDelete, times: 9, status: 404}, want: image.ErrDeleteUnsupported, left: 1},
		"immutable":        {by: byTag, fault: fault{method: http.MethodDelete, times: 9, status: 412}, want: image.ErrDeleteUnsupported, left: 1},
		"not allowed":      {by: byTag, fault: fault{method: http.MethodDelete, times: 9, status: 403}, want: image.ErrDeleteDenied, left: 1},
		"no credentials":   {by: byTag, fault: fault{method: http.MethodDelete, times: 9, status: 401}, want: image.ErrDeleteDenied, left: 1},
		"tags first":       {by: byTag, fault: fault{method: http.MethodDelete, times: 1, status: 400, code: "GOOGLE_MANIFEST_DANGLING_TAG"}},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			reg := newRegistry(t)
			p := &image.Pusher{}
			tag := reg.host + "/a:one"
			pushed, err := p.Push(t.Context(), image.Request{Archive: opener(raw), Container: "app", Tag: tag})
			if err != nil {
				t.Fatal(err)
			}
			reg.inject(tt.fault)
			if err := p.Delete(t.Context(), tt.by(tag, pushed.Digest)); !errors.Is(err, tt.want) {
				t.Errorf("got error %v, want %v", err, tt.want)
			}
			ref, err := name.NewDigest(pushed.Digest)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := remote.Head(ref); (err == nil) != (tt.left == 1) {
				t.Errorf("looking for the image afterwards: %v; want %d left", err, tt.left)
			}
		})
	}
}

// TestDeleteByTagLeavesNoTag is about registries that keep a tag whose manifest is gone; the one in memory does.
func TestDeleteByTagLeavesNoTag(t *testing.T) {
	reg := newRegistry(t)
	p := &image.Pusher{}
	for _, tag := range []string{"one", "two"} {
		request := image.Request{Archive: opener(archivetest.Tar(archivetest.Checkpoint(archivetest.File("checkpoint/x", tag))...)), Container: "app"}
		request.Tag = reg.host + "/a:" + tag
		if _, err := p.Push(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Delete(t.Context(), reg.host+"/a:one"); err != nil {
		t.Fatal(err)
	}
	tags, err := p.Tags(t.Context(), reg.host+"/a")
	if diff := cmp.Diff([]string{"two"}, tags); err != nil || diff != "" {
		t.Errorf("tags: %v (-want +got):\n%s", err, diff)
	}
}

// TestDeleteByTagWithoutTags has a registry that deletes manifests only, and is slow to forget their tags.
func TestDeleteByTagWithoutTags(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.Method == http.MethodHead:
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("a", 64))
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Content-Length", "2")
		case req.Method == http.MethodDelete && strings.Contains(req.URL.Path, "sha256:"):
			w.WriteHeader(http.StatusAccepted)
		case req.Method == http.MethodDelete:
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	}))
	t.Cleanup(server.Close)
	if err := (&image.Pusher{}).Delete(t.Context(), strings.TrimPrefix(server.URL, "http://")+"/a:one"); err != nil {
		t.Error(err)
	}
}

// TestDeleteLeavesANewImage has another image come to the tag while the first is deleted.
func TestDeleteLeavesANewImage(t *testing.T) {
	var deleted []string
	digest := "sha256:" + strings.Repeat("a", 64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.Method {
		case http.MethodHead:
			w.Header().Set("Docker-Content-Digest", digest)
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Content-Length", "2")
		case http.MethodDelete:
			deleted = append(deleted, req.URL.Path)
			digest = "sha256:" + strings.Repeat("b", 64)
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	t.Cleanup(server.Close)
	if err := (&image.Pusher{}).Delete(t.Context(), strings.TrimPrefix(server.URL, "http://")+"/a:one"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/v2/a/manifests/sha256:" + strings.Repeat("a", 64)}, deleted); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
}
