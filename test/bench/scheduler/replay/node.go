// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
)

// What kubelet and containerd do by default.
const (
	// gcEvery is how often the kubelet looks at the disk, gcHigh from which share on it removes images, gcLow down to which, and gcAge is how
	// long an image has to have been there.
	gcEvery = 5 * time.Minute
	gcHigh  = 0.85
	gcLow   = 0.80
	gcAge   = 2 * time.Minute

	// onDisk is how many bytes a layer takes for each that it has in the registry: containerd keeps the compressed blob beside the unpacked files.
	onDisk = 3.5

	// reportedImages is how many images a node's status has, the largest.
	reportedImages = 50

	// settle is after how long a change of a node's images is told of, by the kubelet and by the agent.
	settle = 10 * time.Second

	// startTime is what a pod takes beside its images: sandbox, network, the process itself.
	startTime = time.Second
)

// node is a machine with a kubelet.
type node struct {
	slot   int
	name   string
	shape  shape
	object *corev1.Node

	images map[string]*stored // by digest
	layers map[string]*shared // by digest
	bytes  int64              // of all layers, compressed
	free   time.Duration      // when the pulls under way are done: one image after the other
	pods   map[*pod]bool

	requested int64 // millicores
	telling   bool  // its images are about to be told of
	leaving   bool  // nothing new comes
	gone      bool
}

// stored is an image on a node.
type stored struct {
	*image
	since, ready, used time.Duration
	pods               int
}

// shared is a layer that so many images on a node have.
type shared struct {
	bytes  int64
	images int
}

func newNode(i int, s slot, generation int, now time.Time) *node {
	n := &node{
		slot: i, name: s.name(i, generation), shape: s.shape,
		images: map[string]*stored{}, layers: map[string]*shared{}, pods: map[*pod]bool{},
	}
	room := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(s.shape.cpu, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(s.shape.memory, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(110, resource.DecimalSI),
	}
	n.object = &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, CreationTimestamp: metav1.NewTime(now), Labels: map[string]string{
			corev1.LabelHostname:           n.name,
			corev1.LabelTopologyZone:       "zone-" + string(rune('a'+s.zone)),
			corev1.LabelTopologyRegion:     "region",
			corev1.LabelInstanceTypeStable: s.shape.name,
			corev1.LabelArchStable:         "amd64",
			corev1.LabelOSStable:           "linux",
		}},
		Status: corev1.NodeStatus{
			Capacity: room, Allocatable: room,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	return n
}

// pull has the image fetched, unless it is there or on its way. It returns when it is there, and how many bytes came for it.
func (n *node) pull(now time.Duration, i *image) (time.Duration, int64) {
	if s := n.images[i.digest]; s != nil {
		return max(now, s.ready), 0
	}
	var missing int64
	for _, l := range i.layers {
		have := n.layers[l.digest]
		if have == nil {
			have = &shared{bytes: l.bytes}
			n.layers[l.digest] = have
			missing += l.bytes
		}
		have.images++
	}
	n.bytes += missing
	n.images[i.digest] = &stored{image: i, since: now, ready: n.fetch(now, missing), used: now}
	return n.free, missing
}

// fetch has bytes pulled and unpacked after all that is pulled already. It returns when that is done.
func (n *node) fetch(now time.Duration, bytes int64) time.Duration {
	seconds := float64(bytes)/n.shape.pull + float64(bytes)/n.shape.unpack
	n.free = max(n.free, now) + time.Duration(seconds*float64(time.Second))
	return n.free
}

// collect removes images that no pod uses, the one first that was not used for the longest time, once the disk is full. It reports whether there were
// any.
func (n *node) collect(now time.Duration) bool {
	used := func() float64 { return float64(n.bytes) * onDisk / float64(n.shape.disk) }
	if used() < gcHigh {
		return false
	}
	var idle []*stored
	for _, s := range n.images {
		if s.pods == 0 && s.ready <= now && now-s.since >= gcAge {
			idle = append(idle, s)
		}
	}
	slices.SortFunc(idle, func(a, b *stored) int { return cmp.Or(cmp.Compare(a.used, b.used), cmp.Compare(a.digest, b.digest)) })
	removed := false
	for _, s := range idle {
		if used() <= gcLow {
			break
		}
		n.drop(s)
		removed = true
	}
	return removed
}

func (n *node) drop(s *stored) {
	delete(n.images, s.digest)
	for _, l := range s.layers {
		have := n.layers[l.digest]
		if have.images--; have.images == 0 {
			delete(n.layers, l.digest)
			n.bytes -= have.bytes
		}
	}
}

// present are the images that are whole on the node, the largest first.
func (n *node) present(now time.Duration) []*stored {
	var all []*stored
	for s := range maps.Values(n.images) {
		if s.ready <= now {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *stored) int { return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.digest, b.digest)) })
	return all
}

// report is what the kubelet says of the node, in a copy.
func (n *node) report(now time.Duration) *corev1.Node {
	object := n.object.DeepCopy()
	object.Status.Images = nil
	for i, s := range n.present(now) {
		if i == reportedImages {
			break
		}
		object.Status.Images = append(object.Status.Images, corev1.ContainerImage{Names: []string{s.byDigest(), s.name}, SizeBytes: s.bytes})
	}
	n.object = object
	return object
}

// profile is what the agent says of it. An image has its repository, without a tag, as one name more.
func (n *node) profile(now time.Duration) *v1alpha1.NodeProfile {
	var index []imageindex.Image
	for _, s := range n.present(now) {
		packed := imageindex.Image{Digest: s.digest, Names: []string{s.name, s.repository}}
		for _, l := range s.layers {
			packed.Layers = append(packed.Layers, imageindex.Layer{Digest: l.digest, Bytes: l.bytes})
		}
		index = append(index, packed)
	}
	return &v1alpha1.NodeProfile{
		ObjectMeta: metav1.ObjectMeta{Name: n.name},
		Status: v1alpha1.NodeProfileStatus{
			Arch: able.Arch, CPUFeatures: able.CPUFeatures, Kernel: able.Kernel, CgroupVersion: able.CgroupVersion,
			Runtime: able.Runtime, CRIUVersion: able.CRIUVersion,
			RestoreMethods:     []v1alpha1.RestoreMethod{{Name: v1alpha1.RestoreMethodImage, Verified: true}},
			ImageIndex:         imageindex.Pack(index),
			PullBytesPerSecond: int64(n.shape.pull),
		},
	}
}

// able is what every node can do and every checkpoint requires: which nodes fit is not what is measured here.
var able = v1alpha1.Requirements{
	Arch: "amd64", CPUFeatures: []string{"avx2", "sse2"}, Kernel: "6.8.0", CgroupVersion: 2, Runtime: "containerd://2.3.7", CRIUVersion: "4.2",
}
