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

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/image"
	"github.com/cryopod/cryopod/test/e2e/bed"
)

// removedTimeout bounds the time from a restore to its images' end: retention leaves them for a minute.
const removedTimeout = 3 * time.Minute

// TestRetention moves a pod and looks for its checkpoint in the registry, on the registry's disk, and for what becomes of the pod when it is
// gone from there. It runs alone: a registry must not be pushed to while it collects garbage.
func TestRetention(t *testing.T) {
	s := newScene(t, "retention", nil, "main")
	s.create(s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main"))))
	before := s.settle()
	s.collectGarbage()
	after := s.drain(before)
	s.checkMoved(before, after, 1)
	checkpoint := s.checkpoint(before, v1alpha1.PhaseRestored)
	full := s.registryBytes()
	s.awaitImagesRemoved(checkpoint)
	s.collectGarbage()
	freed, pushed := full-s.registryBytes(), checkpoint.Status.Containers[0].PushedBytes
	if freed < pushed {
		t.Errorf("the registry's disk got %d bytes back, want the image's %d", freed, pushed)
	}
	t.Logf("the registry's disk got %d bytes back; the image had %d", freed, pushed)
	// The pod never looks for its image again.
	s.checkRestored(s.settle())
	again := s.drain(after)
	s.checkMoved(after, again, 2)
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

// registryBytes is what the registry has on its disk.
func (s *scene) registryBytes() int64 {
	s.t.Helper()
	text, _, _ := strings.Cut(s.inControlPlane("du", "--bytes", "--summarize", "/var/lib/registry"), "\t")
	bytes, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return bytes
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
