// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"time"

	criu "github.com/checkpoint-restore/checkpointctl/lib"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/cryopod/cryopod/pkg/archive"
)

// annotationCRIO is the annotation by which CRI-O knows a checkpoint image (cri-o internal/annotations). containerd's
// is criu.CheckpointAnnotationName.
const annotationCRIO = "io.kubernetes.cri-o.annotations.checkpoint.name"

const (
	// annotationCluster tells the images of one cluster from another's in the same registry. Read by who looks for images that no
	// PodCheckpoint names.
	annotationCluster = "checkpoint.io/cluster"

	// annotationCreated is when the checkpoint was made (OCI image-spec annotations.md).
	annotationCreated = "org.opencontainers.image.created"
)

// BaseConfig is what a checkpoint image keeps of the image that its container was made from. Empty OS and Architecture mean Linux and
// this program's own architecture.
type BaseConfig struct {
	// User is the image's USER: the kubelet checks runAsNonRoot against it.
	User string
	// OS, Architecture and Variant are the platform.
	OS, Architecture, Variant string
}

// ParseBaseConfig takes a BaseConfig out of an OCI or Docker image configuration.
func ParseBaseConfig(raw []byte) (BaseConfig, error) {
	var c struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Variant      string `json:"variant"`
		Config       struct {
			User string `json:"User"`
		} `json:"config"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		// The parser's message may quote the configuration, in which there may be secrets.
		return BaseConfig{}, errors.New("parsing image configuration: it is none")
	}
	return BaseConfig{User: c.Config.User, OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}, nil
}

// Origin is where a checkpoint comes from: what its pod, its node and the runtime say, never its archive. It is written into the image's
// annotations (checkpointctl lib/annotations.go) for people and tools who find the image in a registry, and into the layer's metadata
// files, which runtimes read (archive.Identity). Cryopod itself reads Namespace, Cluster and CheckpointedAt, to tell whether an image is its
// own and how old.
type Origin struct {
	// Cluster is the UID of the cluster's namespace kube-system. An image without it is never taken for an orphan.
	Cluster string
	// Namespace, Pod and PodUID are the checkpointed pod.
	Namespace, Pod, PodUID string
	// Image is the image that the pod's owner wrote, ImageRef the same by digest, as the runtime resolved it (name@sha256:…, or an ID where
	// the image has no name).
	Image, ImageRef string
	// ContainerID is the container's in the runtime; its archive has to be of that one.
	ContainerID string
	// Annotations are what the kubelet has the runtime remember of the container: a runtime takes them from the archive when it restores.
	Annotations map[string]string
	// CheckpointedAt is when the checkpoint was made.
	CheckpointedAt time.Time
	// Runtime is the container runtime and its version (containerd://2.3.7), CRIUVersion that of CRIU.
	Runtime, CRIUVersion string
	// Arch, Kernel and CgroupVersion are the node's.
	Arch, Kernel, CgroupVersion string
}

// checkpointImage is the image of one checkpoint: a layer, a configuration, a manifest. All but the layer depend on the
// layer's content and are stream.ErrNotComputed before it.
type checkpointImage struct {
	layer   *layer
	request Request
}

var _ v1.Image = (*checkpointImage)(nil)

// Layers implements v1.Image.
func (i *checkpointImage) Layers() ([]v1.Layer, error) { return []v1.Layer{i.layer}, nil }

// MediaType implements v1.Image.
func (i *checkpointImage) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// Size implements v1.Image.
func (i *checkpointImage) Size() (int64, error) { return partial.Size(i) }

// Digest implements v1.Image.
func (i *checkpointImage) Digest() (v1.Hash, error) { return partial.Digest(i) }

// ConfigName implements v1.Image.
func (i *checkpointImage) ConfigName() (v1.Hash, error) { return partial.ConfigName(i) }

// RawConfigFile implements v1.Image.
func (i *checkpointImage) RawConfigFile() ([]byte, error) { return partial.RawConfigFile(i) }

// RawManifest implements v1.Image.
func (i *checkpointImage) RawManifest() ([]byte, error) { return partial.RawManifest(i) }

// ConfigFile implements v1.Image.
func (i *checkpointImage) ConfigFile() (*v1.ConfigFile, error) {
	done, err := i.layer.computed()
	if err != nil {
		return nil, err
	}
	base := i.request.Base
	if base.OS == "" {
		base.OS = "linux"
	}
	if base.Architecture == "" {
		base.Architecture = runtime.GOARCH
	}
	created := v1.Time{Time: i.request.Origin.CheckpointedAt.UTC()}
	return &v1.ConfigFile{
		OS:           base.OS,
		Architecture: base.Architecture,
		Variant:      base.Variant,
		Created:      created,
		Config:       v1.Config{User: base.User},
		RootFS:       v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{done.diffID}},
		History:      []v1.History{{Created: created, CreatedBy: "cryopod", Comment: "checkpoint of " + i.request.Container}},
	}, nil
}

// Manifest implements v1.Image.
func (i *checkpointImage) Manifest() (*v1.Manifest, error) {
	done, err := i.layer.computed()
	if err != nil {
		return nil, err
	}
	config, err := i.RawConfigFile()
	if err != nil {
		return nil, err
	}
	configDigest, configSize, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	return &v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        v1.Descriptor{MediaType: types.OCIConfigJSON, Size: configSize, Digest: configDigest},
		Layers:        []v1.Descriptor{{MediaType: types.OCILayerZStd, Size: done.size, Digest: done.digest}},
		Annotations:   i.request.annotations(),
	}, nil
}

// LayerByDigest implements v1.Image.
func (i *checkpointImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	if config, err := i.ConfigName(); err == nil && config == h {
		return partial.ConfigLayer(i)
	}
	if digest, err := i.layer.Digest(); err != nil || digest != h {
		return nil, fmt.Errorf("finding layer %q: %w", h, stream.ErrNotComputed)
	}
	return i.layer, nil
}

// LayerByDiffID implements v1.Image.
func (i *checkpointImage) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	if diffID, err := i.layer.DiffID(); err != nil || diffID != h {
		return nil, fmt.Errorf("finding layer by diff ID %q: %w", h, stream.ErrNotComputed)
	}
	return i.layer, nil
}

// pushedBytes is the size of the layer, the configuration and the manifest.
func (i *checkpointImage) pushedBytes() (int64, error) {
	m, err := i.Manifest()
	if err != nil {
		return 0, err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return 0, err
	}
	return m.Layers[0].Size + m.Config.Size + int64(len(raw)), nil
}

// annotations tell where the checkpoint comes from. Nothing of the archive is among them.
func (r Request) annotations() map[string]string {
	all := map[string]string{
		annotationCluster:                                 r.Origin.Cluster,
		criu.CheckpointAnnotationName:                     r.Container,
		annotationCRIO:                                    r.Container,
		criu.CheckpointAnnotationNamespace:                r.Origin.Namespace,
		criu.CheckpointAnnotationPod:                      r.Origin.Pod,
		criu.CheckpointAnnotationPodUID:                   r.Origin.PodUID,
		criu.CheckpointAnnotationRootfsImageUserRequested: r.Origin.Image,
		criu.CheckpointAnnotationRootfsImageName:          r.Origin.ImageRef,
		criu.CheckpointAnnotationEngine:                   r.Origin.Runtime,
		criu.CheckpointAnnotationCriuVersion:              r.Origin.CRIUVersion,
		criu.CheckpointAnnotationHostArch:                 r.Origin.Arch,
		criu.CheckpointAnnotationHostKernel:               r.Origin.Kernel,
		criu.CheckpointAnnotationCgroupVersion:            r.Origin.CgroupVersion,
	}
	if at := r.Origin.CheckpointedAt; !at.IsZero() {
		all[annotationCreated] = at.UTC().Format(time.RFC3339)
	}
	for key, value := range all {
		if value == "" {
			delete(all, key)
		}
	}
	return all
}

// identity is what stands in the layer's metadata files.
func (r Request) identity() archive.Identity {
	o := r.Origin
	return archive.Identity{
		ID: o.ContainerID, Name: r.Container, Namespace: o.Namespace, Pod: o.Pod, PodUID: o.PodUID,
		BaseImage: o.Image, BaseImageRef: o.ImageRef, Annotations: o.Annotations, CheckpointedAt: o.CheckpointedAt,
	}
}
