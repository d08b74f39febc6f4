// SPDX-License-Identifier: Apache-2.0

package throughput

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/test/bench/scale/store"
	"github.com/cryopod/cryopod/test/bench/scale/world"
)

// Mix is what kinds of pods wait for a node.
type Mix string

const (
	// Plain pods have nothing to do with Cryopod.
	Plain Mix = "plain"
	// Fresh pods are opted in, all of them, and restore nothing.
	Fresh Mix = "fresh"
	// Restoring is one pod in RestoringOneIn that restores from a checkpoint of its own; the others are fresh.
	Restoring Mix = "restoring"
)

// Mixes are all of them.
var Mixes = []Mix{Plain, Fresh, Restoring}

const (
	// RestoringOneIn is one of how many pods that restores.
	RestoringOneIn = 10
	// oldOneIn is one of how many nodes whose CPU lacks what the checkpoints may use, lacking is how many features.
	oldOneIn = 5
	lacking  = 10
)

// restores tells whether the pod of that number restores.
func (m Mix) restores(i int) bool { return m == Restoring && i%RestoringOneIn == 0 }

// old tells whether the node of that number can't take a checkpoint.
func old(i int) bool { return i%oldOneIn == oldOneIn-1 }

// profile is what the agent of the node of that number publishes.
func profile(i int) store.Object {
	o := world.Profile(i)
	if p, ok := o.Value.(*v1alpha1.NodeProfile); ok && old(i) {
		p.Status.CPUFeatures = p.Status.CPUFeatures[:len(p.Status.CPUFeatures)-lacking]
	}
	return o
}

// checkpoint is the one that the pod of that number restores from.
func checkpoint(i int) *v1alpha1.PodCheckpoint {
	pc, _ := world.Checkpoint(i/RestoringOneIn, 1).Value.(*v1alpha1.PodCheckpoint)
	source, _ := world.Profile(0).Value.(*v1alpha1.NodeProfile)
	pc.Name, pc.Status.Phase = fmt.Sprintf("checkpoint-of-%06d", i), v1alpha1.PhaseClaimed
	pc.Status.Requirements = &v1alpha1.Requirements{
		Arch: source.Status.Arch, CPUFeatures: source.Status.CPUFeatures, Kernel: source.Status.Kernel, CgroupVersion: source.Status.CgroupVersion,
		Runtime: source.Status.Runtime, CRIUVersion: source.Status.CRIUVersion,
	}
	pc.Status.Claim.PodUID, pc.Status.Claim.PodName = world.PodUID(i), world.New(i).Name
	for k := range pc.Status.Containers {
		c := &pc.Status.Containers[k]
		c.BaseImage = image(i, k)
		repository, _, _ := strings.Cut(c.BaseImage, ":")
		c.BaseImageDigest = repository + "@" + world.ImageDigest(kind(i, k))
		c.ImageTag = fmt.Sprintf("registry.test/checkpoints/bench:%s.%s", pc.Name, c.Name)
	}
	return pc
}

// kind is that of the image of a container of a pod. The ten pods of an owner have the same, and each owner has two of its own.
func kind(pod, container int) int { return (2*(pod/10) + container) % world.Kinds }

func image(pod, container int) string { return world.Image(kind(pod, container)) }

// pod is the pod of that number as admission leaves it, waiting for a scheduler.
func (m Mix) pod(i int, scheduler string) *corev1.Pod {
	pod := world.New(i)
	delete(pod.Annotations, v1alpha1.AnnotationEnabled)
	for k := range pod.Spec.Containers {
		pod.Spec.Containers[k].Image = image(i, k)
	}
	if m != Plain {
		pod.Annotations[v1alpha1.AnnotationEnabled] = "true"
		pod = inject.OptIn(pod, inject.Options{TemplateHash: "0123456789abcdef", Scheduler: true})
	}
	if m.restores(i) {
		pod = inject.Restore(pod, checkpoint(i), "claim")
	}
	pod.Spec.SchedulerName = scheduler
	pod.UID, pod.Status = world.PodUID(i), corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBurstable}
	return pod
}
