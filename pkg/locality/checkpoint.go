// SPDX-License-Identifier: Apache-2.0

package locality

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// checkpoint is what the plugin keeps of a PodCheckpoint. It never changes once made.
type checkpoint struct {
	metav1.ObjectMeta // namespace, name and resource version only
	phase             v1alpha1.Phase
	requirements      v1alpha1.Requirements
	bases             map[string]baseImage // by container
}

// baseImage is the image that a checkpointed container was started from.
type baseImage struct {
	name, digest string // as its owner wrote it; name@sha256:…
}

func newCheckpoint(c *v1alpha1.PodCheckpoint) *checkpoint {
	k := &checkpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name, ResourceVersion: c.ResourceVersion},
		phase:      c.Status.Phase,
		bases:      make(map[string]baseImage, len(c.Status.Containers)),
	}
	if c.Status.Requirements != nil {
		k.requirements = *c.Status.Requirements
	}
	for _, part := range c.Status.Containers {
		k.bases[part.Name] = baseImage{name: part.BaseImage, digest: part.BaseImageDigest}
	}
	return k
}

// over reports whether nothing can be restored from the checkpoint any more: its pod will start cold.
func (c *checkpoint) over() bool {
	return c.phase.Final() && c.phase != v1alpha1.PhaseRestored
}
