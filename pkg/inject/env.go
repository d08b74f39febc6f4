// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// injectedEnv are the variables that keep processes away from kernel features that CRIU can't save: multipath TCP, which Go
// listens with since 1.24, and io_uring in libuv.
var injectedEnv = []corev1.EnvVar{
	{Name: "GODEBUG", Value: "multipathtcp=0"},
	{Name: "UV_USE_IO_URING", Value: "0"},
}

// IsInjectedEnv tells whether the variable is, name and value, one that OptIn adds.
func IsInjectedEnv(e corev1.EnvVar) bool {
	return e.ValueFrom == nil && slices.ContainsFunc(injectedEnv, func(ours corev1.EnvVar) bool {
		return e.Name == ours.Name && e.Value == ours.Value
	})
}

// addEnv adds each injected variable that the container's own environment does not set. A variable that comes from envFrom
// is not seen here; one in env wins over it, so such a container is left alone.
func addEnv(c *corev1.Container) {
	if len(c.EnvFrom) > 0 {
		return
	}
	for _, e := range injectedEnv {
		if !slices.ContainsFunc(c.Env, func(have corev1.EnvVar) bool { return have.Name == e.Name }) {
			c.Env = append(c.Env, e)
		}
	}
}
