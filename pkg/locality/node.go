// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
)

// node is what the plugin keeps of a NodeProfile. It never changes once made.
type node struct {
	metav1.ObjectMeta // the name and the resource version only
	abilities
	*imageindex.Index
	pullRate int64 // measured, in bytes a second; 0: not measured
}

// abilities is what decides whether a node can restore a checkpoint: of two nodes with the same, both can or none.
type abilities struct {
	arch          string
	cpu           features
	cgroupVersion int32
	runtime       string // the family (containerd)
	kernel, criu  release
	verified      methods
}

func newNode(p *v1alpha1.NodeProfile) *node {
	n := &node{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, ResourceVersion: p.ResourceVersion},
		abilities: abilities{
			arch:          p.Status.Arch,
			cpu:           featuresOf(p.Status.CPUFeatures),
			cgroupVersion: p.Status.CgroupVersion,
			runtime:       runtimeFamily(p.Status.Runtime),
			kernel:        releaseOf(p.Status.Kernel),
			criu:          releaseOf(p.Status.CRIUVersion),
			verified:      verifiedOf(p.Status.RestoreMethods),
		},
	}
	index, err := imageindex.Unpack(p.Status.ImageIndex)
	if err != nil {
		// One of another version, or none yet: what the node itself reports has to do.
		index = &imageindex.Index{}
	}
	n.Index, n.pullRate = index, p.Status.PullBytesPerSecond
	return n
}

// measured are the seconds that the node takes to pull a byte, 0 where its rate was not measured. n may be nil.
func (n *node) measured() float64 {
	if n == nil || n.pullRate <= 0 {
		return 0
	}
	return 1 / float64(n.pullRate)
}

// tells reports whether all images of the node are known; else what the node itself reports has to do. n may be nil.
func (n *node) tells() bool { return n != nil && len(n.Images) > 0 }

// has reports whether the image is on the node, by its digest or by one of its names. n may be nil.
func (n *node) has(i *image) bool {
	if n == nil {
		return false
	}
	if _, have := n.Images[i.id]; have && i.hasID {
		return true
	}
	for _, name := range i.nameIDs {
		if _, have := n.Names[name]; have {
			return true
		}
	}
	return false
}

// sameAbilities reports whether the nodes can restore the same checkpoints. Either may be nil.
func (n *node) sameAbilities(other *node) bool {
	if n == nil || other == nil {
		return n == other
	}
	return n.abilities == other.abilities
}

// methods are names of restore methods, sorted and with a space between them.
type methods string

func verifiedOf(all []v1alpha1.RestoreMethod) methods {
	var names []string
	for _, m := range all {
		if m.Verified {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return methods(strings.Join(names, " "))
}

func (m methods) has(name string) bool {
	for known := range strings.FieldsSeq(string(m)) {
		if known == name {
			return true
		}
	}
	return false
}

// runtimeFamily returns containerd of containerd://2.3.7.
func runtimeFamily(version string) string {
	family, _, _ := strings.Cut(version, "://")
	return family
}
