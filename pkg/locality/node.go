// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"maps"
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
}

// abilities is what decides whether a node can restore a checkpoint.
type abilities struct {
	arch          string
	cpuFeatures   []string // sorted
	cgroupVersion int32
	runtime       string          // the family (containerd)
	verified      map[string]bool // restore methods
}

func newNode(p *v1alpha1.NodeProfile) *node {
	n := &node{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, ResourceVersion: p.ResourceVersion},
		abilities: abilities{
			arch:          p.Status.Arch,
			cpuFeatures:   slices.Sorted(slices.Values(p.Status.CPUFeatures)),
			cgroupVersion: p.Status.CgroupVersion,
			runtime:       runtimeFamily(p.Status.Runtime),
			verified:      make(map[string]bool, len(p.Status.RestoreMethods)),
		},
	}
	index, err := imageindex.Unpack(p.Status.ImageIndex)
	if err != nil {
		// One of another version, or none yet: what the node itself reports has to do.
		index = &imageindex.Index{}
	}
	n.Index = index
	for _, m := range p.Status.RestoreMethods {
		n.verified[m.Name] = m.Verified
	}
	return n
}

// sameAbilities reports whether the nodes can restore the same checkpoints.
func (n *node) sameAbilities(other *node) bool {
	a, b := n.abilities, other.abilities
	return a.arch == b.arch && a.cgroupVersion == b.cgroupVersion && a.runtime == b.runtime &&
		slices.Equal(a.cpuFeatures, b.cpuFeatures) && maps.Equal(a.verified, b.verified)
}

// runtimeFamily returns containerd of containerd://2.3.7.
func runtimeFamily(version string) string {
	family, _, _ := strings.Cut(version, "://")
	return family
}
