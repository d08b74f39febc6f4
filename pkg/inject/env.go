// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// injectedEnv keeps processes away from kernel features that CRIU can't save: multipath TCP, which Go listens with since 1.24,
// and io_uring in libuv.
var injectedEnv = []corev1.EnvVar{
	{Name: "GODEBUG", Value: "multipathtcp=0"},
	{Name: "UV_USE_IO_URING", Value: "0"},
}

// mergedEnv is for a container with envFrom, whose variables are not known here. The kubelet puts the value from envFrom, if
// there is one, in place of the reference, and Go ignores a reference that stays. There is no such way for UV_USE_IO_URING;
// the seccomp profile has to do.
var mergedEnv = []corev1.EnvVar{{Name: "GODEBUG", Value: "multipathtcp=0,$(GODEBUG)"}}

// IsInjectedEnv tells whether the variable is, name and value, one that OptIn adds.
func IsInjectedEnv(e corev1.EnvVar) bool {
	same := func(ours corev1.EnvVar) bool { return e.Name == ours.Name && e.Value == ours.Value }
	return e.ValueFrom == nil && (slices.ContainsFunc(injectedEnv, same) || slices.ContainsFunc(mergedEnv, same))
}

func addEnv(c *corev1.Container) {
	add := injectedEnv
	if len(c.EnvFrom) > 0 {
		add = mergedEnv
	}
	for _, e := range add {
		if !slices.ContainsFunc(c.Env, func(have corev1.EnvVar) bool { return have.Name == e.Name }) {
			c.Env = append(c.Env, e)
		}
	}
}
