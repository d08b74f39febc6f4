// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/cryopod/cryopod/test/e2e/chaos/residue"
	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// TestResidue leaves something behind in each place where an accident could, and has it found. What was there before, of other tests and of
// their pods, is not of interest.
func TestResidue(t *testing.T) {
	s := newScene(t, "residue", nil, "main")
	s.create(s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main"))))
	pod := s.settle()
	node, err := testbed.Cluster.Node(pod.Spec.NodeName)
	if err != nil {
		t.Fatal(err)
	}
	find := func(known []residue.Leftover) []residue.Leftover {
		t.Helper()
		found, err := residue.Find(t.Context(), testbed, 0, known...)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	before := find(nil)
	for _, l := range before {
		t.Logf("there before: %v", l)
	}
	want := s.plant(node, strings.TrimPrefix(pod.Status.ContainerStatuses[0].ContainerID, "containerd://"))
	found := find(before)
	for _, w := range want {
		if !slices.ContainsFunc(found, func(l residue.Leftover) bool { return l.Kind == w.Kind && strings.Contains(l.Name, w.Name) }) {
			t.Errorf("not found: %s %s", w.Kind, w.Name)
		}
	}
	for _, l := range found {
		t.Logf("found: %v", l)
	}
}

// plant leaves things behind until the test is over, and returns what is to be found of each.
func (s *scene) plant(node *cluster.Node, container string) []residue.Leftover {
	s.t.Helper()
	base, err := name.NewTag(testbed.Cluster.RegistryHostAddress()+"/checkpoints/"+s.Namespace+":latest", name.Insecure)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := remote.Write(base, empty.Image, remote.WithContext(s.t.Context())); err != nil {
		s.t.Fatal(err)
	}
	s.onNode(node, "ctr -n k8s.io task pause "+container, "ctr -n k8s.io task resume "+container)
	archive := fmt.Sprintf("checkpoint-lost_%s-main-2026-01-01T00:00:00Z.tar", s.Namespace)
	s.onNode(node, "touch /var/lib/kubelet/checkpoints/"+archive, "rm /var/lib/kubelet/checkpoints/"+archive)
	s.onNode(node, "touch -d 2020-01-01 /var/lib/cryopod/.lost", "rm /var/lib/cryopod/.lost")
	s.onNode(node, "mkdir /tmp/lost && mount -t tmpfs lost /tmp/lost", "umount /tmp/lost && rmdir /tmp/lost")
	return []residue.Leftover{
		{Kind: residue.KindImage, Name: s.Namespace + ":latest"},
		{Kind: residue.KindFrozen, Name: s.Namespace + "/" + s.name},
		{Kind: residue.KindArchive, Name: archive},
		{Kind: residue.KindFile, Name: ".lost"},
		{Kind: residue.KindMount, Name: "/tmp/lost"},
	}
}

// onNode runs a shell's command on a node, and another one when the test is over.
func (s *scene) onNode(node *cluster.Node, command, undo string) {
	s.t.Helper()
	if _, err := node.Exec(s.t.Context(), "sh", "-c", command); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := node.Exec(ctx, "sh", "-c", undo); err != nil {
			s.t.Error(err)
		}
	})
}
