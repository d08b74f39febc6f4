// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
	"github.com/cryopod/cryopod/pkg/locality"
)

// TestPredictionsAgree has random clusters change at random: what is predicted for all nodes at once is what is predicted for each alone.
func TestPredictionsAgree(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := newRandomCluster(seed)
			for step := range 150 {
				r.change()
				if got := r.Disagreement(r.pod(), r.nodes); got != "" {
					t.Fatalf("after %d changes: %s", step+1, got)
				}
			}
			if at := r.PredictedAtOnce(); at == 0 {
				t.Error("no node's price was ever predicted together with others'")
			}
			r.clear()
			if left := r.Left(); left != "" {
				t.Errorf("of an empty cluster, this is left: %s", left)
			}
		})
	}
}

type randomCluster struct {
	*rand.Rand
	*locality.Cluster
	nodes    []*corev1.Node
	profiles map[string]*v1alpha1.NodeProfile
	pods     []string
	made     int
}

func newRandomCluster(seed uint64) *randomCluster {
	r := &randomCluster{Rand: rand.New(rand.NewPCG(seed, 5)), Cluster: locality.NewCluster(), profiles: map[string]*v1alpha1.NodeProfile{}}
	for i := range randomNodes {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%d", i)}}
		// What a node reports itself; the last ones never have a profile.
		for k := range i % 4 {
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{fmt.Sprintf("registry.test/app-%d:1", k)}, SizeBytes: 100 << 20})
		}
		n.Spec.Unschedulable = i == 5
		r.nodes = append(r.nodes, n)
	}
	return r
}

const (
	randomNodes  = 12
	randomImages = 10
	randomLayers = 25
)

func randomDigest(kind, n int) string { return fmt.Sprintf("sha256:%02x%06x%056x", kind, n, 0) }

// image is one of few, with a tag that may have moved on some nodes.
func (r *randomCluster) image() imageindex.Image {
	n := r.IntN(randomImages)
	i := imageindex.Image{
		Digest: randomDigest(1, n), Names: []string{fmt.Sprintf("registry.test/app-%d:1", (n+r.IntN(10)/9)%randomImages), fmt.Sprintf("registry.test/app-%d", n)},
	}
	for l := range 1 + n%6 {
		k := (n*3 + l*l) % randomLayers
		i.Layers = append(i.Layers, imageindex.Layer{Digest: fmt.Sprintf("sha256:%06x%058x", 7919*(k+1), 0), Bytes: int64(1+k) << 20})
	}
	return i
}

func (r *randomCluster) nodeName() string { return fmt.Sprintf("node-%d", r.IntN(randomNodes)) }

func (r *randomCluster) pod() *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "p", Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true"},
	}}
	for c := range 1 + r.IntN(3) {
		image := r.image()
		name := image.Names[0]
		if r.IntN(3) == 0 {
			name = image.Names[1] + "@" + image.Digest
		}
		if r.IntN(8) == 0 {
			name = "registry.test/nobody-has-it:1"
		}
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: fmt.Sprint(c), Image: name})
	}
	if r.IntN(3) == 0 {
		pod.Annotations[v1alpha1.AnnotationRestoreFrom] = "unknown"
	}
	return pod
}

// change changes one thing.
func (r *randomCluster) change() {
	switch r.IntN(7) {
	case 0, 1: // a node's images
		name := fmt.Sprintf("node-%d", r.IntN(randomNodes-2))
		p := newProfile(name, r.IntN(4) > 0)
		p.Status.Kernel = []string{"", "5.10", "6.1"}[r.IntN(3)]
		p.Status.PullBytesPerSecond = int64(r.IntN(3)) << 24
		var images []imageindex.Image
		for range r.IntN(8) {
			images = append(images, r.image())
		}
		p.Status.ImageIndex = imageindex.Pack(images)
		r.Profile(r.profiles[name], p)
		r.profiles[name] = p
	case 2: // a node without one
		name := r.nodeName()
		if p := r.profiles[name]; p != nil {
			r.Profile(p, nil)
			delete(r.profiles, name)
		}
	case 3, 4: // a pod more
		r.made++
		uid := fmt.Sprint(r.made)
		r.Add(uid, r.nodeName(), r.pod(), r.nodes)
		r.pods = append(r.pods, uid)
	case 5: // a node's own status
		k := r.IntN(randomNodes)
		r.nodes[k] = r.nodes[k].DeepCopy()
	case 6: // a pod less
		if len(r.pods) > 0 {
			k := r.IntN(len(r.pods))
			r.Remove(r.pods[k])
			r.pods = append(r.pods[:k], r.pods[k+1:]...)
		}
	}
}

func (r *randomCluster) clear() {
	for _, p := range r.profiles {
		r.Profile(p, nil)
	}
	for _, uid := range r.pods {
		r.Remove(uid)
	}
}
