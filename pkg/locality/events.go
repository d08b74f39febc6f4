// SPDX-License-Identifier: Apache-2.0

package locality

import corev1 "k8s.io/api/core/v1"

// recordGivenUp tells on the pod that its patience has run out.
func (p *Plugin) recordGivenUp(pod *corev1.Pod) {
	p.handle.EventRecorder().Eventf(pod, nil, corev1.EventTypeWarning, "RestoreNotPlaced", "Scheduling",
		"No node that can restore the pod took it within %s; it may go to any node now, and starts cold where it cannot be restored",
		p.args.RestorePatience.Duration)
}
