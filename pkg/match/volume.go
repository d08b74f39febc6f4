// SPDX-License-Identifier: Apache-2.0

package match

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Outliving is the name of a volume that the pod's containers may write to and that outlives the pod, such as a PersistentVolumeClaim or an
// NFS share; empty when there is none. What is on such a volume goes on after a checkpoint of a pod that does: a process that
// started from that checkpoint later would find files that are newer than its memory.
func Outliving(pod *corev1.Pod) string {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if outlives(v) && writable(pod, v.Name) {
			return v.Name
		}
	}
	return ""
}

// outlives names the kinds that don't; whatever else there is, or will be, is taken to. A host's own folder stays with the host, which is
// gone when such a checkpoint is used.
func outlives(v *corev1.Volume) bool {
	s := &v.VolumeSource
	switch {
	case s.EmptyDir != nil, s.HostPath != nil, s.Ephemeral != nil, s.CSI != nil, s.Image != nil,
		s.ConfigMap != nil, s.Secret != nil, s.DownwardAPI != nil, s.Projected != nil:
		return false
	case s.PersistentVolumeClaim != nil:
		return !s.PersistentVolumeClaim.ReadOnly
	}
	return true
}

func writable(pod *corev1.Pod, volume string) bool {
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if slices.ContainsFunc(c.VolumeDevices, func(d corev1.VolumeDevice) bool { return d.Name == volume }) ||
			slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume && !m.ReadOnly }) {
			return true
		}
	}
	return false
}
