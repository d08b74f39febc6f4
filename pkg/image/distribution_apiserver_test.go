// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package image_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/cryopod/cryopod/pkg/archive/archivetest"
	"github.com/cryopod/cryopod/pkg/image"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
)

// distribution is a running registry of the distribution project, with a disk.
type distribution struct {
	host, dir, config, program string
}

func startDistribution(t *testing.T, deletes bool) *distribution {
	t.Helper()
	tools, err := toolchain.Ensure(t.Context(), toolchain.Options{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &distribution{host: listener.Addr().String(), dir: t.TempDir(), program: tools.Registry}
	_ = listener.Close()
	d.config = filepath.Join(t.TempDir(), "config.yml")
	content := fmt.Sprintf("version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n"+
		"storage:\n  filesystem: {rootdirectory: %s}\n  delete: {enabled: %v}\nhttp: {addr: %s, secret: test}\n", d.dir, deletes, d.host)
	if err := os.WriteFile(d.config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := exec.Command(d.program, "serve", d.config)
	serve.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Kill()
		_ = serve.Wait()
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://" + d.host + "/v2/")
		if err == nil {
			_ = resp.Body.Close()
			return d
		}
		if time.Now().After(end) {
			t.Fatalf("the registry does not answer: %v", err)
		}
	}
}

// collect runs the registry's garbage collection.
func (d *distribution) collect(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), d.program, "garbage-collect", d.config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("garbage-collect: %v\n%s", err, out)
	}
}

// bytes is the size of the registry's files.
func (d *distribution) bytes(t *testing.T) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(d.dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func (d *distribution) push(t *testing.T, tag string, seed byte) image.Result {
	t.Helper()
	heap := archivetest.Heap(8<<20, 8)
	heap[0] = seed
	result, err := (&image.Pusher{}).Push(t.Context(), image.Request{
		Archive:   opener(archivetest.Tar(archivetest.Checkpoint(archivetest.File("checkpoint/pages-2.img", string(heap)))...)),
		Container: "app", Tag: d.host + "/" + tag, Origin: image.Origin{Cluster: "c1", Namespace: "shop", CheckpointedAt: archivetest.Time},
	})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// TestDistributionFreesTheDisk deletes one of two images with another tag, and looks at the registry's disk.
func TestDistributionFreesTheDisk(t *testing.T) {
	d := startDistribution(t, true)
	p := &image.Pusher{}
	pushed := d.push(t, "x/shop:a.app", 1)
	d.push(t, "x/shop:b.app", 2)
	ref, err := name.NewDigest(pushed.Digest)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Get(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Tag(ref.Context().Tag("again"), desc); err != nil {
		t.Fatal(err)
	}
	before := d.bytes(t)
	if err := p.Delete(t.Context(), d.host+"/x/shop:a.app"); err != nil {
		t.Fatal(err)
	}
	tags, err := p.Tags(t.Context(), d.host+"/x/shop")
	if diff := cmp.Diff([]string{"b.app"}, tags); err != nil || diff != "" {
		t.Errorf("tags afterwards: %v (-want +got):\n%s", err, diff)
	}
	if _, err := remote.Get(ref); err == nil {
		t.Error("the manifest is still there by its digest")
	}
	d.collect(t)
	after := d.bytes(t)
	if freed := before - after; freed < pushed.PushedBytes || after < pushed.PushedBytes {
		t.Errorf("of %d bytes, %d are left; want %d freed and the other image there", before, after, pushed.PushedBytes)
	}
	t.Logf("of %d bytes on disk %d are left; the image had %d", before, after, pushed.PushedBytes)
	if stored, err := p.Inspect(t.Context(), d.host+"/x/shop:b.app"); err != nil || stored == nil || stored.Cluster != "c1" {
		t.Errorf("the other image is %+v (%v)", stored, err)
	}
}

// TestDistributionLists pages through more tags than one answer has.
func TestDistributionLists(t *testing.T) {
	d := startDistribution(t, true)
	d.push(t, "x/shop:0.app", 1)
	d.push(t, "x/bank:0.app", 1)
	ref, err := name.NewTag(d.host + "/x/shop:0.app")
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Get(ref)
	if err != nil {
		t.Fatal(err)
	}
	const count = 1100
	want := []string{"0.app"}
	pusher, err := remote.NewPusher()
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < count; i++ {
		tag := fmt.Sprintf("%d.app", i)
		want = append(want, tag)
		if err := pusher.Put(t.Context(), ref.Context().Tag(tag), desc); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	p := &image.Pusher{}
	tags, err := p.Tags(t.Context(), d.host+"/x/shop")
	slices.Sort(tags)
	if diff := cmp.Diff(want, tags); err != nil || diff != "" {
		t.Errorf("Tags: %v (-want +got):\n%s", err, diff)
	}
	p.Lists.Names = 1050
	if tags, err := p.Tags(t.Context(), d.host+"/x/shop"); !errors.Is(err, image.ErrTooMany) || len(tags) != 1050 {
		t.Errorf("bounded to 1050 it has %d tags (%v)", len(tags), err)
	}
	repos, err := p.Repositories(t.Context(), d.host+"/x")
	if diff := cmp.Diff("bank shop", strings.Join(repos, " ")); err != nil || diff != "" {
		t.Errorf("Repositories: %v (-want +got):\n%s", err, diff)
	}
}

func TestDistributionWithoutDeletion(t *testing.T) {
	d := startDistribution(t, false)
	pushed := d.push(t, "x/shop:a.app", 1)
	for _, ref := range []string{d.host + "/x/shop:a.app", pushed.Digest} {
		if err := (&image.Pusher{}).Delete(t.Context(), ref); !errors.Is(err, image.ErrDeleteUnsupported) {
			t.Errorf("deleting %q: %v, want ErrDeleteUnsupported", ref, err)
		}
	}
}
