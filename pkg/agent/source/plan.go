// SPDX-License-Identifier: Apache-2.0

package source

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// plan is what an attempt does to a pod: freeze all that runs, save what was asked for.
type plan struct {
	freeze []fence.Container
	save   []fence.Container
	status []v1alpha1.ContainerCheckpoint
	// probes is how long the pod may stand still by its probes; nil where none bounds it.
	probes *Budget
}

// podGoneError means that there is no pod any more that could be saved, or go on.
type podGoneError struct{ pod, how string }

func (e *podGoneError) Error() string { return fmt.Sprintf("pod %q %s", e.pod, e.how) }

// planFor decides what to freeze and what to save. It fails where the pod is not in a state to be saved.
func planFor(pod *corev1.Pod, pc *v1alpha1.PodCheckpoint, now time.Time) (*plan, error) {
	switch {
	case pod.UID != pc.Spec.PodUID:
		return nil, &podGoneError{pod: pod.Name, how: "was replaced by another one of its name"}
	case pod.DeletionTimestamp != nil:
		return nil, &podGoneError{pod: pod.Name, how: "is already being deleted"}
	case pod.Spec.NodeName != pc.Spec.NodeName:
		return nil, fmt.Errorf("pod %q runs on node %q, not on %q", pod.Name, pod.Spec.NodeName, pc.Spec.NodeName)
	}
	for i, s := range pod.Status.InitContainerStatuses {
		if s.State.Running != nil && !restartable(pod, s.Name) {
			return nil, fmt.Errorf("pod %q is not initialized yet: %q still runs", pod.Name, pod.Status.InitContainerStatuses[i].Name)
		}
	}
	base := baseImages(pod)
	p := &plan{}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if s.State.Running == nil {
			continue
		}
		id, ok := strings.CutPrefix(s.ContainerID, "containerd://")
		if !ok {
			return nil, fmt.Errorf("container %q has the ID %q: its runtime is not supported, only containerd is", s.Name, s.ContainerID)
		}
		c := fence.Container{Name: s.Name, ID: id}
		p.freeze = append(p.freeze, c)
		if len(pc.Spec.Containers) > 0 && !slices.Contains(pc.Spec.Containers, s.Name) {
			continue
		}
		p.save = append(p.save, c)
		p.status = append(p.status, v1alpha1.ContainerCheckpoint{
			Name: s.Name, BaseImage: base[s.Name], BaseImageDigest: digestOf(s.ImageID),
		})
	}
	for _, name := range pc.Spec.Containers {
		if !slices.ContainsFunc(p.save, func(c fence.Container) bool { return c.Name == name }) {
			return nil, fmt.Errorf("container %q of pod %q does not run", name, pod.Name)
		}
	}
	if len(p.save) == 0 {
		return nil, fmt.Errorf("no container of pod %q runs", pod.Name)
	}
	if b, bounded := ProbeBudget(pod, now); bounded {
		if b.Still() < leastStill {
			return nil, b.tooShort()
		}
		p.probes = &b
	}
	return p, nil
}

// holding rebuilds from the pod what a PodCheckpoint froze, for the case that the node's ledger does not know it any more.
func holding(pod *corev1.Pod, pc *v1alpha1.PodCheckpoint) []fence.Container {
	var held []fence.Container
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		id, ok := strings.CutPrefix(s.ContainerID, "containerd://")
		if ok && s.State.Running != nil && pod.UID == pc.Spec.PodUID {
			held = append(held, fence.Container{Name: s.Name, ID: id})
		}
	}
	return held
}

func restartable(pod *corev1.Pod, container string) bool {
	for _, c := range pod.Spec.InitContainers {
		if c.Name == container {
			return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		}
	}
	return false
}

// baseImages maps each container to the image that the pod's owner wrote, also for a pod that was itself restored.
func baseImages(pod *corev1.Pod) map[string]string {
	images := map[string]string{}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		images[c.Name] = c.Image
	}
	var swapped map[string]string
	if raw := pod.Annotations[v1alpha1.AnnotationBaseImages]; raw != "" && json.Unmarshal([]byte(raw), &swapped) == nil {
		for name, image := range swapped {
			images[name] = image
		}
	}
	return images
}

// digestOf returns an image ID of a container's status as name@digest; empty for an image that has only a local ID.
func digestOf(imageID string) string {
	imageID = strings.TrimPrefix(imageID, "docker-pullable://")
	if !strings.Contains(imageID, "@sha256:") {
		return ""
	}
	return imageID
}
