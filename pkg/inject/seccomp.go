// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// addSeccomp gives the pod the runtime's default profile, which denies io_uring. It goes on the pod where no container is
// privileged, else on each of the others, so that the profile of a privileged container is never touched.
func addSeccomp(pod *corev1.Pod) {
	if pod.Spec.SecurityContext != nil && pod.Spec.SecurityContext.SeccompProfile != nil {
		return
	}
	if !slices.ContainsFunc(pod.Spec.InitContainers, privileged) && !slices.ContainsFunc(pod.Spec.Containers, privileged) {
		if pod.Spec.SecurityContext == nil {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{}
		}
		pod.Spec.SecurityContext.SeccompProfile = runtimeDefault()
		return
	}
	eachContainer(pod, func(c *corev1.Container) {
		if privileged(*c) {
			return
		}
		if c.SecurityContext == nil {
			c.SecurityContext = &corev1.SecurityContext{}
		}
		if c.SecurityContext.SeccompProfile == nil {
			c.SecurityContext.SeccompProfile = runtimeDefault()
		}
	})
}

func privileged(c corev1.Container) bool {
	return c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
}

func runtimeDefault() *corev1.SeccompProfile {
	return &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
}

// IsInjectedSeccomp tells whether the profile is the one that OptIn sets.
func IsInjectedSeccomp(p *corev1.SeccompProfile) bool {
	return p != nil && p.Type == corev1.SeccompProfileTypeRuntimeDefault
}
