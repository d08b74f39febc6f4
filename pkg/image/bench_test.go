// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cryopod/cryopod/pkg/archive/archivetest"
	"github.com/cryopod/cryopod/pkg/image"
)

// sink is a registry that checks digests and forgets: a benchmark with it measures the pusher, not the registry's memory.
type sink struct {
	mu  sync.Mutex
	sum hash.Hash
}

func (s *sink) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch req.Method {
	case http.MethodPost:
		s.sum = sha256.New()
		w.Header().Set("Location", "/v2/a/blobs/uploads/1")
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPatch:
		_, _ = io.Copy(s.sum, req.Body)
		w.Header().Set("Location", "/v2/a/blobs/uploads/1")
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPut:
		want := strings.TrimPrefix(req.URL.Query().Get("digest"), "sha256:")
		if want != "" && want != hex.EncodeToString(s.sum.Sum(nil)) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusCreated)
	case http.MethodHead:
		w.WriteHeader(http.StatusNotFound)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

// heapArchive streams a checkpoint archive whose one large file repeats a piece of heap: it needs no memory of its own size.
func heapArchive(size int64, piece []byte) io.ReadCloser {
	head := archivetest.Tar(archivetest.Checkpoint()...)
	head = head[:len(head)-1024] // without the end mark
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "checkpoint/pages-2.img", Size: size, Mode: 0o600}); err != nil {
		panic(err)
	}
	return io.NopCloser(io.MultiReader(
		bytes.NewReader(head), &b, &repeat{piece: piece, left: size}, bytes.NewReader(make([]byte, (512-size%512)%512+1024))))
}

type repeat struct {
	piece []byte
	at    int
	left  int64
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), r.left)], r.piece[r.at:])
	r.at = (r.at + n) % len(r.piece)
	r.left -= int64(n)
	return n, nil
}

func BenchmarkPush(b *testing.B) {
	for _, random := range []int{0, 4, 8} {
		piece := archivetest.Heap(32<<20, random)
		for _, registry := range []string{"sink", "memory"} {
			b.Run(fmt.Sprintf("256MiB/%d-of-8-random/%s", random, registry), func(b *testing.B) {
				host := newRegistry(b).host
				if registry == "sink" {
					server := httptest.NewServer(&sink{})
					b.Cleanup(server.Close)
					host = strings.TrimPrefix(server.URL, "http://")
				}
				const size = 256 << 20
				b.SetBytes(size)
				for b.Loop() {
					_, err := (&image.Pusher{}).Push(b.Context(), image.Request{
						Archive:   func() (io.ReadCloser, error) { return heapArchive(size, piece), nil },
						Container: "app",
						Tag:       host + "/a:b",
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// TestPushIsBounded pushes much more than it may hold, and looks at the heap meanwhile.
func TestPushIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("pushes 768 MiB")
	}
	server := httptest.NewServer(&sink{})
	defer server.Close()
	piece := archivetest.Heap(8<<20, 6)
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)

	var most uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapInuse)
			}
		}
	}()
	_, err := (&image.Pusher{Workers: 2}).Push(t.Context(), image.Request{
		Archive:   func() (io.ReadCloser, error) { return heapArchive(768<<20, piece), nil },
		Container: "app",
		Tag:       strings.TrimPrefix(server.URL, "http://") + "/a:b",
	})
	close(stop)
	<-stopped
	if err != nil {
		t.Fatal(err)
	}
	if used := int64(most) - int64(before.HeapInuse); used > 64<<20 {
		t.Errorf("the heap grew by %d MiB, want at most 64", used>>20)
	} else {
		t.Logf("the heap grew by %d MiB", used>>20)
	}
}
