// SPDX-License-Identifier: Apache-2.0

package locality

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// checkpoint is what the plugin keeps of a PodCheckpoint. It never changes once made.
type checkpoint struct {
	metav1.ObjectMeta // namespace, name and resource version only
	phase             v1alpha1.Phase
	demand            demand
	parts             map[string]part // by container
}

// part is what was saved of one container.
type part struct {
	base, baseDigest string // as its owner wrote it; name@sha256:…
	image            image  // the checkpoint image
	bytes            int64  // of the archive, uncompressed
}

func newCheckpoint(c *v1alpha1.PodCheckpoint) *checkpoint {
	k := &checkpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name, ResourceVersion: c.ResourceVersion},
		phase:      c.Status.Phase,
		parts:      make(map[string]part, len(c.Status.Containers)),
	}
	var requirements v1alpha1.Requirements
	if c.Status.Requirements != nil {
		requirements = *c.Status.Requirements
	}
	k.demand = newDemand(requirements)
	for _, saved := range c.Status.Containers {
		i := reference(saved.ImageTag)
		i.digest, i.bytes = reference(saved.Image).digest, saved.PushedBytes
		k.parts[saved.Name] = part{base: saved.BaseImage, baseDigest: saved.BaseImageDigest, image: i.identified(), bytes: saved.Bytes}
	}
	return k
}

// over reports whether nothing can be restored from the checkpoint any more: its pod will start cold.
func (c *checkpoint) over() bool {
	return c.phase.Final() && c.phase != v1alpha1.PhaseRestored
}

// restored is how many bytes the pod's containers are restored from. c may be nil.
func (c *checkpoint) restored(pod *corev1.Pod) (bytes int64) {
	if c == nil {
		return 0
	}
	for i := range pod.Spec.Containers {
		bytes += c.parts[pod.Spec.Containers[i].Name].bytes
	}
	for i := range pod.Spec.InitContainers {
		bytes += c.parts[pod.Spec.InitContainers[i].Name].bytes
	}
	return bytes
}

// part is what was saved of the container; false for none. c may be nil.
func (c *checkpoint) part(container string) (part, bool) {
	if c == nil {
		return part{}, false
	}
	saved, ok := c.parts[container]
	return saved, ok
}
