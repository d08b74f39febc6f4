// SPDX-License-Identifier: Apache-2.0

package app

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// The transforms of the cache. What they drop is in no object that is read from the cache; whoever comes to need it has to keep it here.

// stripPod drops of a pod what its containers run and where it may be scheduled to: the most of it, and what may hold secrets. A pod that
// restores stays whole but for the managed fields: it is patched as it was read.
func stripPod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	pod.ManagedFields = nil
	if _, restores := pod.Annotations[v1alpha1.AnnotationRestoreFrom]; restores {
		return pod, nil
	}
	spec := &pod.Spec
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			c := &containers[i]
			containers[i] = corev1.Container{
				Name: c.Name, Image: c.Image, RestartPolicy: c.RestartPolicy, Resources: c.Resources, VolumeMounts: c.VolumeMounts,
				SecurityContext: c.SecurityContext,
			}
		}
	}
	spec.EphemeralContainers, spec.Tolerations, spec.Affinity, spec.TopologySpreadConstraints = nil, nil, nil, nil
	spec.ImagePullSecrets, spec.HostAliases, spec.DNSConfig, spec.ReadinessGates = nil, nil, nil, nil
	return pod, nil
}

// stripNode leaves of a node its name and UID, its notice, its taints, and whether it is cordoned.
func stripNode(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	kept := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion},
		Spec:       corev1.NodeSpec{Taints: node.Spec.Taints, Unschedulable: node.Spec.Unschedulable},
	}
	if notice, ok := node.Annotations[v1alpha1.AnnotationNotice]; ok {
		metav1.SetMetaDataAnnotation(&kept.ObjectMeta, v1alpha1.AnnotationNotice, notice)
	}
	return kept, nil
}

// stripProfile leaves of a NodeProfile its name and UID, its conditions, and the notice that its agent gives.
func stripProfile(obj any) (any, error) {
	profile, ok := obj.(*v1alpha1.NodeProfile)
	if !ok {
		return obj, nil
	}
	return &v1alpha1.NodeProfile{
		ObjectMeta: metav1.ObjectMeta{Name: profile.Name, UID: profile.UID, ResourceVersion: profile.ResourceVersion},
		Status:     v1alpha1.NodeProfileStatus{Notice: profile.Status.Notice, Conditions: profile.Status.Conditions},
	}, nil
}

// stripNamespace leaves of a namespace its name and UID, and what it says about retention.
func stripNamespace(obj any) (any, error) {
	ns, ok := obj.(*corev1.Namespace)
	if !ok {
		return obj, nil
	}
	kept := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns.Name, UID: ns.UID, ResourceVersion: ns.ResourceVersion}}
	for _, key := range []string{v1alpha1.AnnotationRetentionCount, v1alpha1.AnnotationRetentionAge, v1alpha1.AnnotationRetentionBytes} {
		if value, ok := ns.Annotations[key]; ok {
			metav1.SetMetaDataAnnotation(&kept.ObjectMeta, key, value)
		}
	}
	return kept, nil
}
