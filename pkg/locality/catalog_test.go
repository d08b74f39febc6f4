// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/imageindex"
	"github.com/cryopod/cryopod/pkg/locality"
)

// TestReportedImages has an image that only a node's own status tells of: it is looked for there while some node has no profile that tells of images, and
// in a large cluster of which all do, nobody goes through all nodes for an image that is new.
func TestReportedImages(t *testing.T) {
	const name = "registry.test/app-1:1"
	nodes := []*corev1.Node{
		{ObjectMeta: metav1.ObjectMeta{Name: "a"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Status: corev1.NodeStatus{Images: []corev1.ContainerImage{{Names: []string{name}, SizeBytes: 5}}}},
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: name}}}}
	c := locality.NewCluster()
	tell := func(node string) {
		p := newProfile(node, true)
		p.Status.ImageIndex = imageindex.Pack([]imageindex.Image{{Digest: randomDigest(1, 1), Layers: []imageindex.Layer{{Digest: randomDigest(2, 1), Bytes: 7}}}})
		c.Profile(nil, p)
	}
	for _, step := range []struct {
		tells string
		want  int
	}{{"", 1}, {"a", 1}, {"b", 0}} {
		if step.tells != "" {
			tell(step.tells)
		}
		if got := c.Known(pod, nodes); got != step.want {
			t.Errorf("after %q tells, %d images are known, want %d", step.tells, got, step.want)
		}
	}
}
