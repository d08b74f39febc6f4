// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/image"
	"github.com/cryopod/cryopod/test/e2e/bed"
)

// removedTimeout bounds the time from a restore to its images' end: retention leaves them for a minute.
const removedTimeout = 3 * time.Minute

// TestRetention moves a pod and looks for its checkpoint in the registry, on the registry's disk, and for what becomes of the pod when it is
// gone from there. The end it does alone: a registry must not be pushed to while it collects garbage.
func TestRetention(t *testing.T) {
	beside(t)
	s := newScene(t, "retention", nil, "main")
	s.create(s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main"))))
	before := s.settle()
	after := s.drain(before)
	s.checkMoved(before, after, 1)
	checkpoint := s.checkpoint(before, v1alpha1.PhaseRestored)
	blobs := s.blobs(checkpoint)
	if bytes, pushed := s.onDisk(blobs), checkpoint.Status.Containers[0].PushedBytes; bytes < pushed {
		t.Errorf("the registry has %d bytes of %d blobs, want the %d that were pushed", bytes, len(blobs), pushed)
	}
	s.awaitImagesRemoved(checkpoint)
	alone(t)
	s.collectGarbage()
	if left := s.onDisk(blobs); left > 0 {
		t.Errorf("the registry still has %d bytes of the image", left)
	}
	// The pod never looks for its image again.
	s.checkRestored(s.settle())
	again := s.drain(after)
	s.checkMoved(after, again, 2)
}

// blobs are the files of the checkpoint's image in the registry: its manifest, its configuration and its layers.
func (s *scene) blobs(pc v1alpha1.PodCheckpoint) []string {
	s.t.Helper()
	_, digest, _ := strings.Cut(pc.Status.Containers[0].Image, "@")
	hash, err := v1.NewHash(digest)
	if err != nil {
		s.t.Fatal(err)
	}
	files := []string{blobFile(hash)}
	manifest, err := v1.ParseManifest(strings.NewReader(s.inControlPlane("cat", files[0])))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, part := range append(manifest.Layers, manifest.Config) {
		files = append(files, blobFile(part.Digest))
	}
	return files
}

// blobFile is where the registry keeps it.
func blobFile(h v1.Hash) string {
	return "/var/lib/registry/docker/registry/v2/blobs/" + h.Algorithm + "/" + h.Hex[:2] + "/" + h.Hex + "/data"
}

// onDisk is how many bytes the files have that are there.
func (s *scene) onDisk(files []string) int64 {
	s.t.Helper()
	var sum int64
	const sizes = `for file; do if [ -e "$file" ]; then stat --format=%s "$file"; fi; done`
	for _, size := range strings.Fields(s.inControlPlane(append([]string{"sh", "-c", sizes, "sh"}, files...)...)) {
		bytes, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		sum += bytes
	}
	return sum
}

// awaitImagesRemoved returns once the PodCheckpoint says that its images are gone, and finds them gone.
func (s *scene) awaitImagesRemoved(pc v1alpha1.PodCheckpoint) {
	s.t.Helper()
	ctx, cancel := s.within(removedTimeout)
	defer cancel()
	err := bed.Until(ctx, func(ctx context.Context) error {
		var now v1alpha1.PodCheckpoint
		if err := testbed.Client.Get(ctx, client.ObjectKeyFromObject(&pc), &now); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(now.Status.Conditions, v1alpha1.ConditionImagesRemoved) {
			return fmt.Errorf("PodCheckpoint %q has conditions %+v, want %s", pc.Name, now.Status.Conditions, v1alpha1.ConditionImagesRemoved)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	tags, err := (&image.Pusher{}).Tags(ctx, testbed.Cluster.RegistryHostAddress()+"/checkpoints/"+s.Namespace)
	if err != nil || len(tags) > 0 {
		s.t.Errorf("the registry has the tags %q (%v), want none", tags, err)
	}
}

func (s *scene) collectGarbage() {
	s.t.Helper()
	s.inControlPlane("env", "OTEL_TRACES_EXPORTER=none", "registry", "garbage-collect", "/etc/registry.yml")
}

func (s *scene) inControlPlane(argv ...string) string {
	s.t.Helper()
	cmd, err := testbed.Cluster.Command(s.t.Context(), "control-plane", argv...)
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}
