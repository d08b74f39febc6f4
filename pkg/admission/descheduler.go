// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// removal is who ends the pod once the attempt that begins now is over. The descheduler asks once only for a pod that it is told to ask
// for (v1alpha1.AnnotationEvictOnly): the controllers have to end what it began.
func removal(c *Case) v1alpha1.Removal {
	if _, once := c.Pod.Annotations[v1alpha1.AnnotationEvictOnly]; once && c.Removal == v1alpha1.RemovalNone {
		return v1alpha1.RemovalEvict
	}
	return c.Removal
}
