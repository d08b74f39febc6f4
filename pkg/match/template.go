// SPDX-License-Identifier: Apache-2.0

package match

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/inject"
)

const (
	// serviceAccountVolume begins the name of the volume that the API server adds to each pod, with a random end.
	serviceAccountVolume = "kube-api-access-"

	templateDigits = 16
)

// template is what has to be equal for a process of one pod to go on in another. Resources, probes and scheduling are left
// out: they come from the new pod, and autoscalers change them from one pod to the next.
type template struct {
	Revision   string      `json:"revision,omitempty"`
	Init       []container `json:"init,omitempty"`
	Containers []container `json:"containers"`
	RunAs      runAs       `json:"runAs"`
}

type container struct {
	Name            string                  `json:"name"`
	Image           string                  `json:"image"`
	Command         []string                `json:"command,omitempty"`
	Args            []string                `json:"args,omitempty"`
	WorkingDir      string                  `json:"workingDir,omitempty"`
	Ports           []corev1.ContainerPort  `json:"ports,omitempty"`
	EnvFrom         []corev1.EnvFromSource  `json:"envFrom,omitempty"`
	Env             []corev1.EnvVar         `json:"env,omitempty"`
	Mounts          []corev1.VolumeMount    `json:"mounts,omitempty"`
	Devices         []corev1.VolumeDevice   `json:"devices,omitempty"`
	SecurityContext *corev1.SecurityContext `json:"securityContext,omitempty"`
}

type runAs struct {
	User         *int64                 `json:"user,omitempty"`
	Group        *int64                 `json:"group,omitempty"`
	Supplemental []int64                `json:"supplemental,omitempty"`
	SELinux      *corev1.SELinuxOptions `json:"seLinux,omitempty"`
}

// TemplateHash is a hash over what the pod's owner wrote and a checkpoint depends on: the revision that a Deployment or
// StatefulSet puts on its pods, and each container's image, command, environment, mounts and identity. What Cryopod itself
// changes in a pod (package inject) does not count, nor do the API server's service account mounts, so it is the same before
// and after admission, and in a pod that runs from a checkpoint.
func TemplateHash(pod *corev1.Pod) string {
	base := inject.BaseImages(pod)
	t := template{
		Revision: cmp.Or(pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey],
			pod.Labels[appsv1.ControllerRevisionHashLabelKey]),
		Init:       containersOf(pod.Spec.InitContainers, base),
		Containers: containersOf(pod.Spec.Containers, base),
	}
	if sc := pod.Spec.SecurityContext; sc != nil {
		t.RunAs = runAs{
			User: sc.RunAsUser, Group: sc.RunAsGroup, Supplemental: sc.SupplementalGroups, SELinux: sc.SELinuxOptions,
		}
	}
	sum := sha256.New()
	// Encoding plain structs of strings and numbers into a hash has no way to fail.
	_ = json.NewEncoder(sum).Encode(t)
	return hex.EncodeToString(sum.Sum(nil))[:templateDigits]
}

func containersOf(in []corev1.Container, base map[string]string) []container {
	out := make([]container, 0, len(in))
	for i := range in {
		c := &in[i]
		image := c.Image
		if b, ok := base[c.Name]; ok {
			image = b
		}
		out = append(out, container{
			Name: c.Name, Image: image, Command: c.Command, Args: c.Args, WorkingDir: c.WorkingDir,
			Ports: c.Ports, EnvFrom: c.EnvFrom, Env: withoutInjected(c.Env), Mounts: withoutServiceAccount(c.VolumeMounts),
			Devices: c.VolumeDevices, SecurityContext: withoutSeccomp(c.SecurityContext),
		})
	}
	// Injectors of sidecars differ in where they put theirs; a name occurs once.
	slices.SortFunc(out, func(a, b container) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func withoutInjected(env []corev1.EnvVar) []corev1.EnvVar {
	return slices.DeleteFunc(slices.Clone(env), inject.IsInjectedEnv)
}

func withoutSeccomp(sc *corev1.SecurityContext) *corev1.SecurityContext {
	if sc == nil || !inject.IsInjectedSeccomp(sc.SeccompProfile) {
		return sc
	}
	out := sc.DeepCopy()
	out.SeccompProfile = nil
	if *out == (corev1.SecurityContext{}) {
		return nil
	}
	return out
}

func withoutServiceAccount(mounts []corev1.VolumeMount) []corev1.VolumeMount {
	return slices.DeleteFunc(slices.Clone(mounts), func(m corev1.VolumeMount) bool {
		return strings.HasPrefix(m.Name, serviceAccountVolume)
	})
}
