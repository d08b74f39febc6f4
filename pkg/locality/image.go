// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/util/parsers"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
)

// image is one that a pod needs on its node.
type image struct {
	names  []string     // as node.status.images may have it
	digest string       // sha256:…; empty when only a tag is known
	bytes  int64        // 0: no node has it
	layers []sizedLayer // nil: not known
}

// id is how the nodes' indexes have it; false when its digest is not known.
func (i image) id() (imageindex.ImageID, bool) { return imageindex.ImageOf(i.digest) }

// reference reads an image's name. One that cannot be parsed is looked for as it is.
func reference(name string) image {
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

// needed returns the images that the pod needs on its node, each once, none of them resolved. A checkpoint image is one
// pod's own and on no node: in its place stands the base image that it is restored upon.
func needed(pod *corev1.Pod, c *checkpoint) []image {
	names := make([]string, 0, len(pod.Spec.InitContainers)+len(pod.Spec.Containers)+len(pod.Spec.Volumes))
	swapped := swappedImages(pod)
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			names = append(names, startImage(&containers[i], c, swapped))
		}
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].Image; v != nil {
			names = append(names, v.Reference)
		}
	}
	var images []image
	for _, name := range names {
		i := reference(name)
		known := func(other image) bool {
			return other.names[0] == i.names[0] || i.digest != "" && other.digest == i.digest
		}
		if name != "" && !slices.ContainsFunc(images, known) {
			images = append(images, i)
		}
	}
	return images
}

// startImage returns the image that the container is started or restored from, by digest if that is known.
func startImage(container *corev1.Container, c *checkpoint, swapped map[string]string) string {
	if c != nil {
		if base, ok := c.bases[container.Name]; ok {
			if base.digest != "" {
				return base.digest
			}
			return base.name
		}
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

// resolve fills in the images' sizes and layers from what the nodes have, and drops those that no node has: they are the same
// work everywhere.
func resolve(images []image, known *catalog, nodes []fwk.NodeInfo) []image {
	var resolved []image
	for _, i := range images {
		layers, found := known.layersOf(i)
		if !found {
			i = reported(i, nodes)
			layers, found = known.layersOf(i)
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
	return resolved
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
