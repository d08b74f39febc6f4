// SPDX-License-Identifier: Apache-2.0

package export

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/agent/source"
	"github.com/cryopod/cryopod/pkg/image"
)

// The annotations that the kubelet has the runtime keep of a container (kubernetes pkg/kubelet/kuberuntime/labels.go). A runtime that
// restores takes them from the checkpoint, and the kubelet heeds them then: one of them names a file that it reads, another one a command
// that it runs.
const (
	annotationHash          = "io.kubernetes.container.hash"
	annotationRestarts      = "io.kubernetes.container.restartCount"
	annotationMessagePath   = "io.kubernetes.container.terminationMessagePath"
	annotationMessagePolicy = "io.kubernetes.container.terminationMessagePolicy"
	annotationPreStop       = "io.kubernetes.container.preStopHandler"
	annotationPorts         = "io.kubernetes.container.ports"
	annotationGrace         = "io.kubernetes.pod.terminationGracePeriod"
)

// origin is what the pod, the node and the runtime say of the container, and its archive has no say in.
func (e *Exporter) origin(ctx context.Context, p source.Part) (image.Origin, error) {
	o := e.Origin()
	if e.Cluster != nil {
		o.Cluster = e.Cluster.UID(ctx)
	}
	o.Namespace, o.Pod, o.PodUID, o.Image = p.Checkpoint.Namespace, p.Pod.Name, string(p.Pod.UID), p.BaseImage
	o.ContainerID, o.CheckpointedAt = p.Container.ID, time.Now().UTC().Truncate(time.Second)
	o.ImageRef = imageOf(p.Pod, p.Container.Name)
	if o.ImageRef == "" {
		return o, fmt.Errorf("finding out the image of container %q: the pod's status does not tell", p.Container.Name)
	}
	var err error
	o.Annotations, err = kubeletAnnotations(p.Pod, p.Container.Name)
	return o, err
}

// imageOf is the image of a container by digest, or by its ID, as the kubelet has it from the runtime.
func imageOf(pod *corev1.Pod, container string) string {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if s.Name == container {
			return strings.TrimPrefix(s.ImageID, "docker-pullable://")
		}
	}
	return ""
}

// kubeletAnnotations are what the kubelet itself would write for the container. The hash and the number of restarts are those of the
// container that is created from the checkpoint; the runtime puts them in, but only where there are some.
func kubeletAnnotations(pod *corev1.Pod, container string) (map[string]string, error) {
	all := map[string]string{annotationHash: "0", annotationRestarts: "0"}
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		all[annotationGrace] = strconv.FormatInt(*s, 10)
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if c.Name != container {
			continue
		}
		all[annotationMessagePath], all[annotationMessagePolicy] = c.TerminationMessagePath, string(c.TerminationMessagePolicy)
		if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
			raw, err := json.Marshal(c.Lifecycle.PreStop)
			if err != nil {
				return nil, fmt.Errorf("describing container %q: %w", container, err)
			}
			all[annotationPreStop] = string(raw)
		}
		if len(c.Ports) > 0 {
			raw, err := json.Marshal(c.Ports)
			if err != nil {
				return nil, fmt.Errorf("describing container %q: %w", container, err)
			}
			all[annotationPorts] = string(raw)
		}
	}
	return all, nil
}
