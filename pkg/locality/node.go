// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// layer is a compressed layer's short digest as NodeProfiles have it (12 hexadecimal digits), as a number.
type layer uint64

// storedImage is what NodeProfiles tell of an image.
type storedImage struct {
	bytes  int64
	layers []layer
}

// node is what the plugin keeps of a NodeProfile. It never changes once made.
type node struct {
	metav1.ObjectMeta // the name and the resource version only
	abilities
	images map[string]storedImage // by digest (sha256:…)
	layers sets.Set[layer]
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
		images: make(map[string]storedImage, len(p.Status.Images)),
		layers: sets.New[layer](),
	}
	for _, m := range p.Status.RestoreMethods {
		n.verified[m.Name] = m.Verified
	}
	for _, i := range p.Status.Images {
		_, digest, ok := strings.Cut(i.Name, "@")
		if !ok {
			continue
		}
		layers := parseLayers(i.Layers)
		n.images[digest] = storedImage{bytes: i.Bytes, layers: layers}
		n.layers.Insert(layers...)
	}
	return n
}

// sameAbilities reports whether the nodes can restore the same checkpoints.
func (n *node) sameAbilities(other *node) bool {
	a, b := n.abilities, other.abilities
	return a.arch == b.arch && a.cgroupVersion == b.cgroupVersion && a.runtime == b.runtime &&
		slices.Equal(a.cpuFeatures, b.cpuFeatures) && maps.Equal(a.verified, b.verified)
}

// parseLayers returns nil when any layer is not what a short digest looks like: a share of layers would be wrong then.
func parseLayers(short []string) []layer {
	layers := make([]layer, 0, len(short))
	for _, s := range short {
		v, err := strconv.ParseUint(s, 16, 64)
		if err != nil {
			return nil
		}
		layers = append(layers, layer(v))
	}
	return layers
}

// runtimeFamily returns containerd of containerd://2.3.7.
func runtimeFamily(version string) string {
	family, _, _ := strings.Cut(version, "://")
	return family
}
