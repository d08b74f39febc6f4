// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"encoding/json"
	"fmt"
	"time"

	criu "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Identity is what is known of a container from elsewhere than its archive: from its pod, and from the runtime. Of the metadata files, a
// copy has nothing but this. A runtime that restores takes the base image, the container's annotations and, where it is old enough, an
// image's name from them (containerd internal/cri/server/container_checkpoint_linux.go, CRImportCheckpoint): whoever decides what is in
// them decides these.
type Identity struct {
	// ID is the container's in the runtime. An archive of another one is ErrForeign; empty: of any.
	ID string
	// Name is the container's in its pod.
	Name string
	// Namespace, Pod and PodUID are the pod.
	Namespace, Pod, PodUID string
	// BaseImage is the image's name that the pod's owner wrote, BaseImageRef the same image by digest: the runtime takes it as root file
	// system.
	BaseImage, BaseImageRef string
	// Annotations are what the kubelet has the runtime remember of the container.
	Annotations map[string]string
	// CheckpointedAt is when the archive was made.
	CheckpointedAt time.Time
}

// The labels by which the kubelet knows its containers (k8s.io/cri-client/pkg/types), and containerd's annotations of a container's
// specification (containerd internal/cri/annotations).
const (
	labelContainer    = "io.kubernetes.container.name"
	labelPod          = "io.kubernetes.pod.name"
	labelPodNamespace = "io.kubernetes.pod.namespace"
	labelPodUID       = "io.kubernetes.pod.uid"

	annotationType      = "io.kubernetes.cri.container-type"
	annotationContainer = "io.kubernetes.cri.container-name"
	annotationPod       = "io.kubernetes.cri.sandbox-name"
	annotationNamespace = "io.kubernetes.cri.sandbox-namespace"
	annotationPodUID    = "io.kubernetes.cri.sandbox-uid"
)

func (id Identity) config() ([]byte, error) {
	return encode(criu.ConfigDumpFile, criu.ContainerConfig{
		ID: id.ID, Name: id.Name, RootfsImage: id.BaseImage, RootfsImageName: id.BaseImage, RootfsImageRef: id.BaseImageRef,
		CheckpointedAt: id.CheckpointedAt.UTC(),
	})
}

// spec has none of the container's environment, arguments, mounts or devices: runtimes take them from the new container and from CRIU's
// images. The annotations are for people who look at an image with checkpointctl.
func (id Identity) spec() ([]byte, error) {
	return encode(criu.SpecDumpFile, specs.Spec{Version: specs.Version, Annotations: map[string]string{
		annotationType: "container", annotationContainer: id.Name,
		annotationPod: id.Pod, annotationNamespace: id.Namespace, annotationPodUID: id.PodUID,
	}})
}

// status is the part of the CRI's ContainerStatus that containerd reads.
func (id Identity) status() ([]byte, error) {
	type named struct {
		Name string `json:"name,omitempty"`
	}
	type image struct {
		Image              string `json:"image,omitempty"`
		UserSpecifiedImage string `json:"user_specified_image,omitempty"`
	}
	return encode(criu.StatusDumpFile, struct {
		ID          string            `json:"id,omitempty"`
		Metadata    named             `json:"metadata"`
		Image       image             `json:"image"`
		ImageRef    string            `json:"image_ref,omitempty"`
		Labels      map[string]string `json:"labels,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}{
		ID: id.ID, Metadata: named{id.Name}, Image: image{id.BaseImage, id.BaseImage}, ImageRef: id.BaseImageRef,
		Labels: map[string]string{
			labelContainer: id.Name, labelPod: id.Pod, labelPodNamespace: id.Namespace, labelPodUID: id.PodUID,
		},
		Annotations: id.Annotations,
	})
}

func encode(name string, content any) ([]byte, error) {
	raw, err := json.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("writing %q: %w", name, err)
	}
	return raw, nil
}
