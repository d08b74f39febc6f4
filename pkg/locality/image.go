// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/util/parsers"
	"k8s.io/utils/lru"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
)

// image is one that a pod needs on its node.
type image struct {
	names  []string     // as node.status.images may have it
	digest string       // sha256:…; empty when only a tag is known
	bytes  int64        // 0: no node has it
	layers []sizedLayer // nil: not known; without those of the images before it in the same pod

	// How the nodes' indexes have it.
	nameIDs []imageindex.NameID
	id      imageindex.ImageID
	hasID   bool
	// repository is its name without tag and digest: the layers of another image of it are likely to be its own.
	repository imageindex.NameID
}

// identified is the image with the IDs of its names and digest.
func (i image) identified() image {
	i.nameIDs = i.nameIDs[:0:0]
	for _, name := range i.names {
		i.nameIDs = append(i.nameIDs, imageindex.NameOf(name))
	}
	i.id, i.hasID = imageindex.ImageOf(i.digest)
	if len(i.names) > 0 {
		i.repository = imageindex.NameOf(repositoryOf(i.names[0]))
	}
	return i
}

// references are the last image names that were read: pods come by the owner, and to parse a name takes longer than all else that is done about it.
var references = lru.New(4096)

// reference reads an image's name. One that cannot be parsed is looked for as it is.
func reference(name string) image {
	if known, ok := references.Get(name); ok {
		i, _ := known.(image)
		return i
	}
	i := parse(name)
	references.Add(name, i)
	return i
}

func parse(name string) image {
	repository, tag, digest, err := parsers.ParseImageName(name)
	if err != nil {
		return image{names: []string{name}}
	}
	full := repository + ":" + tag
	if digest != "" {
		full = repository + "@" + digest
	}
	if full == name {
		return image{names: []string{name}, digest: digest}
	}
	return image{names: []string{full, name}, digest: digest}
}

// repositoryOf is a full name without its tag or digest.
func repositoryOf(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	return name
}

// needed returns the images that the pod needs on its node, each once, none of them resolved: for a container that is restored its checkpoint image and
// the base image upon which that is restored.
func needed(pod *corev1.Pod, c *checkpoint) []image {
	var images []image
	add := func(i image) {
		known := func(other image) bool {
			return other.names[0] == i.names[0] || i.digest != "" && other.digest == i.digest
		}
		if i.names[0] != "" && !slices.ContainsFunc(images, known) {
			images = append(images, i.identified())
		}
	}
	swapped := swappedImages(pod)
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			add(reference(startImage(&containers[i], c, swapped)))
			if saved, ok := c.part(containers[i].Name); ok {
				add(saved.image)
			}
		}
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].Image; v != nil {
			add(reference(v.Reference))
		}
	}
	return images
}

// startImage returns the image that the container is started from, or upon which it is restored, by digest if that is known.
func startImage(container *corev1.Container, c *checkpoint, swapped map[string]string) string {
	if saved, ok := c.part(container.Name); ok {
		return cmp.Or(saved.baseDigest, saved.base)
	}
	if base, ok := swapped[container.Name]; ok {
		return base
	}
	return container.Image
}

// swappedImages returns, by container, the images that the webhook replaced in a restoring pod.
func swappedImages(pod *corev1.Pod) map[string]string {
	if !restoring(pod) {
		return nil
	}
	var bases map[string]string
	// An annotation that cannot be read costs some accuracy of the score and nothing else.
	_ = json.Unmarshal([]byte(pod.Annotations[v1alpha1.AnnotationBaseImages]), &bases)
	return bases
}

// resolve fills in the images' sizes and layers from what the nodes have: those of another image of the same repository where no node has the image
// itself, as in a rollout. It drops those of which nobody knows anything: they are the same work everywhere.
func resolve(images []image, known *catalog, nodes []fwk.NodeInfo) []image {
	var resolved []image
	for _, i := range images {
		layers, found := known.layersOf(i)
		if !found && i.bytes == 0 && !known.tellsAll(len(nodes)) {
			i = reported(i, nodes).identified()
			layers, found = known.layersOf(i)
		}
		if !found && i.bytes == 0 {
			layers, found = known.likeliest(i)
		}
		if found {
			i.layers, i.bytes = layers, 0
			for _, l := range layers {
				i.bytes += l.bytes
			}
		}
		if i.bytes > 0 {
			resolved = append(resolved, i)
		}
	}
	return distinct(resolved)
}

// distinct leaves each layer with the first of the images that has it: it is pulled once.
func distinct(images []image) []image {
	if len(images) < 2 {
		return images
	}
	seen := map[imageindex.LayerID]bool{}
	for k := range images {
		if images[k].layers == nil {
			continue
		}
		own := []sizedLayer{}
		for _, l := range images[k].layers {
			if !seen[l.id] {
				seen[l.id] = true
				own = append(own, l)
			}
		}
		images[k].layers = own
	}
	return images
}

// missing calls a function with each layer of the image that a node has to pull, or with no layer where they are not known and it has to pull all of it.
func (i *image) missing(n *node, reported map[string]*fwk.ImageStateSummary, pull func(*image, *sizedLayer)) {
	if n.has(i) {
		return
	}
	for _, name := range i.names {
		if _, ok := reported[name]; ok && !n.tells() {
			return
		}
	}
	if i.layers == nil {
		pull(i, nil)
		return
	}
	for k := range i.layers {
		l := &i.layers[k]
		if n != nil {
			if _, have := n.Layers[l.id]; have {
				continue
			}
		}
		pull(i, l)
	}
}

// reported completes an image from the status of the first node that reports it.
func reported(i image, nodes []fwk.NodeInfo) image {
	for _, n := range nodes {
		states := n.GetImageStates()
		for _, name := range i.names {
			state, ok := states[name]
			if !ok {
				continue
			}
			i.bytes = state.Size
			if i.digest == "" {
				i.digest = reportedDigest(n.Node(), name)
			}
			return i
		}
	}
	return i
}

// reportedDigest returns the digest that the node reports next to the name, empty if it reports none.
func reportedDigest(n *corev1.Node, name string) string {
	for _, stored := range n.Status.Images {
		if !slices.Contains(stored.Names, name) {
			continue
		}
		for _, other := range stored.Names {
			if digest := reference(other).digest; digest != "" {
				return digest
			}
		}
	}
	return ""
}
